/**
 * Runs before the page is drawn, also in browsers that cannot run the rest: the chosen colours, and a word to old browsers.
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
  if (able) return;
  root.setAttribute("data-old", "");
  document.addEventListener("DOMContentLoaded", function () {
    var failure = document.getElementById("failure");
    document.body.setAttribute("data-state", "failed");
    if (!failure) return;
    failure.removeAttribute("hidden");
    failure.textContent =
      "This browser is too old for the model: it lacks modules, workers or WebAssembly. " +
      "Use a current Chrome, Edge, Firefox or Safari.";
  });
})();
