// The key field in the header: kept in this tab's sessionStorage, sent by api.js.

import { keepKey, key } from "/static/api.js";
import { byId } from "/static/dom.js";

const panel = byId("key-panel");
const field = byId("key-field");
field.value = key();

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey(field.value.trim());
  location.reload();
});
panel.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  panel.open = false;
  panel.querySelector("summary").focus();
});
document.addEventListener("key-needed", () => {
  byId("key-help").textContent = key() ? "The server does not know this key." : "This server asks for a key.";
  panel.open = true;
  field.focus();
});
