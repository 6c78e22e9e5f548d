"use strict";
// The page is whole without this: it only fetches itself again when the server says that something changed.
const refresh = async () => {
  const answer = await fetch("/");
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of ["main", "header"]) document.querySelector(part).replaceWith(fresh.querySelector(part));
};
let waiting = null;
new EventSource("/changes").onmessage = () => {
  waiting ??= setTimeout(() => { waiting = null; refresh(); }, 200);
};
