/**
 * The page's service worker: it keeps what the page consists of on this device, each file under its SHA-256.
 *
 * The two lists are filled in where the page is served or written, so a new version of any file is a new version of this one.
 * A version answers from its own list only, and the next takes over when no page of this one is left: two never mix.
 */

/** The SHA-256 of every file, by its address. @type {Record<string, string>} */
const FILES = {};
/** What the page needs to start. @type {string[]} */
const FIRST = [];

/** What is seen for a moment while the next version takes over. */
const AGAIN = `<!doctype html><title>Morphing Faces</title><meta name="color-scheme" content="light dark"><script>
  setTimeout(() => location.reload(), 300);
</script>`;

const worker = /** @type {any} */ (self);
const home = new URL("./", location.href);
const store = caches.open(`morphing-faces ${home.pathname}`);
/** Here the program that serves the page runs, and another may stand at the same address tomorrow: it is asked first. */
const local = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);

worker.addEventListener("install", (/** @type {any} */ event) => event.waitUntil(Promise.all(FIRST.map(keep))));
worker.addEventListener("activate", (/** @type {any} */ event) => event.waitUntil(tidy().then(() => worker.clients.claim())));
worker.addEventListener("message", (/** @type {any} */ event) => {
  if (event.data === "take over") worker.skipWaiting();
  else event.waitUntil(Promise.all(event.data.filter((/** @type {string} */ address) => address in FILES).map(keep)));
});
worker.addEventListener("fetch", (/** @type {any} */ event) => {
  const { origin, pathname } = new URL(event.request.url);
  const address = pathname.slice(home.pathname.length) || "index.html";
  const own = origin === home.origin && pathname.startsWith(home.pathname) && address in FILES;
  if (own && event.request.method === "GET") event.respondWith(answer(event, address));
});

/**
 * @param {any} event
 * @param {string} address
 * @returns {Promise<Response>}
 */
async function answer(event, address) {
  const { request } = event;
  if (local) {
    const live = await fetch(request).catch(() => null);
    if (live) return live;
  } else if (request.mode === "navigate" && worker.registration.waiting && (await worker.clients.matchAll()).length < 2) {
    worker.registration.waiting.postMessage("take over"); // this is the last page of this version
    return new Response(AGAIN, { headers: { "Content-Type": "text/html; charset=utf-8" } });
  }
  const kept = await find(address);
  if (kept || !address.endsWith(".onnx")) return kept ?? keep(address);
  const live = await fetch(request); // large: straight to the page, which checks it and shows how far it is
  if (live.ok) event.waitUntil(put(address, live.clone()));
  return live;
}

/** @param {string} address */
async function find(address) {
  return (await store).match(key(address), { ignoreVary: true });
}

/**
 * Fetch and keep a file, unless it is kept.
 * @param {string} address
 * @returns {Promise<Response>}
 */
async function keep(address) {
  const kept = await find(address);
  if (kept) return kept;
  const file = new URL(address, home);
  if (address.endsWith(".onnx")) file.searchParams.set("sha256", FILES[address].slice(0, 16)); // as the page asks for it
  const fixed = file.search !== "" || address.startsWith("vendor/");
  const response = await fetch(file, { cache: fixed ? "default" : "no-cache" });
  if (!response.ok) throw new Error(`${address}: ${response.status}`);
  await put(address, response.clone());
  return response;
}

/**
 * Keep a file if it is the one of this version.
 * @param {string} address
 * @param {Response} response
 */
async function put(address, response) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await response.clone().arrayBuffer()));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found === FILES[address]) return (await store).put(key(address), response);
  void worker.registration.update(); // the host has another version by now
  throw new Error(`${address} is of another version`);
}

/** Forget what only other versions need. */
async function tidy() {
  const cache = await store;
  const needed = new Set(Object.keys(FILES).map(key));
  for (const { url } of await cache.keys()) if (!needed.has(url)) await cache.delete(url);
}

/** @param {string} address */
function key(address) {
  return new URL(`kept/${FILES[address]}`, home).href;
}
