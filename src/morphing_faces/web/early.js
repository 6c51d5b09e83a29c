/**
 * Runs before the page is drawn, also in browsers that cannot run the rest: the chosen colours, a word to old browsers, and
 * one where the page's own code does not come. Starts the worker, whose runtime comes while the page still does.
 * Plain ECMAScript 5.
 */
(function () {
  var root = document.documentElement;
  try {
    var theme = JSON.parse(window.localStorage.getItem("morphing-faces/theme") || "null");
    if (theme === "dark" || theme === "light") root.setAttribute("data-theme", theme);
  } catch (error) {
    // storage is forbidden or holds something else: the system's colours
  }

  var able =
    "noModule" in document.createElement("script") &&
    typeof WebAssembly === "object" &&
    typeof Worker === "function" &&
    "replaceChildren" in Element.prototype &&
    "HTMLDialogElement" in window &&
    "roundRect" in CanvasRenderingContext2D.prototype;
  var PATIENCE = 20000; // ms

  /** @param {string} words */
  function fail(words) {
    var failure = document.getElementById("failure");
    var retry = document.getElementById("retry");
    var text = document.getElementById("loading-text");
    document.body.setAttribute("data-state", "failed");
    if (text) text.textContent = "The page is not running.";
    if (retry) {
      retry.removeAttribute("hidden");
      retry.onclick = function () {
        window.location.reload();
      };
    }
    if (!failure) return;
    failure.removeAttribute("hidden");
    failure.textContent = words;
  }

  if (!able) {
    root.setAttribute("data-old", "");
    document.addEventListener("DOMContentLoaded", function () {
      fail(
        "This browser is too old for the model: it lacks modules, workers or WebAssembly. " +
          "Use a current Chrome, Edge, Firefox or Safari."
      );
    });
    return;
  }
  var worker = new Worker("worker.js", { type: "module" });
  /** @type {any} */
  var page = window;
  page.earlyWorker = worker;
  worker.onerror = function (event) {
    event.preventDefault();
    page.earlyWorker = undefined; // another is tried, and told of
  };
  worker.postMessage({ verb: "wake", backend: "wasm" });

  // main.js marks the page as started. A module that cannot be loaded is an error of the element that asked for it.
  function missing() {
    if (!root.hasAttribute("data-started")) fail("A part of the page did not come. Check the connection and try again.");
  }
  window.addEventListener(
    "error",
    function (event) {
      if (event.target instanceof HTMLScriptElement) missing();
    },
    true
  );
  window.addEventListener("load", function () {
    window.setTimeout(missing, PATIENCE);
  });
  window.setTimeout(missing, 2 * PATIENCE);
})();
