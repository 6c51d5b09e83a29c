/** Starts the runtime while the rest of the page still comes. */

import { prepare } from "./model.js";

if (!("old" in document.documentElement.dataset)) prepare();
