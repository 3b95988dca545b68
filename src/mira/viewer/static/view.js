"use strict";
// Pages work without this file. It moves numbers along with sliders, shows how far a search is, and shortens addresses.

function put(place, html) {
  const page = new DOMParser().parseFromString(html, "text/html"); // scripts in it do not run
  place.replaceChildren(...page.body.childNodes);
}

function addressOf(form) {
  const query = new URLSearchParams();
  for (const field of form.elements) {
    if (field.name && !field.disabled && field.value !== "" && !("unchanged" in field.dataset)) query.append(field.name, field.value);
  }
  return query;
}

for (const form of document.querySelectorAll("form[data-live]")) {
  const place = document.getElementById(form.dataset.live);
  let timer, asked = 0;
  form.addEventListener("input", (event) => {
    delete event.target.dataset.unchanged;
    const shown = event.target.closest("label")?.querySelector("output");
    if (shown) shown.textContent = `${Number(event.target.value).toFixed(1)}%`;
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const mine = ++asked, query = addressOf(form);
      place.setAttribute("aria-busy", "true");
      const answer = await fetch(`${form.getAttribute("action")}?${query}&part=1`);
      if (mine !== asked) return; // a later one is on its way
      put(place, await answer.text());
      place.removeAttribute("aria-busy");
      history.replaceState(null, "", `${form.getAttribute("action")}?${query}`);
    }, 60);
  });
}

for (const form of document.querySelectorAll('form[method="get"]')) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const query = addressOf(form).toString();
    location.assign(form.getAttribute("action") + (query ? `?${query}` : ""));
  });
}

async function follow(box) {
  const place = document.getElementById("found"), name = box.dataset.search;
  let hits = -1;
  box.querySelector(".stop")?.addEventListener("click", () => fetch(`/records/search/${name}/stop`, { method: "POST" }));
  for (;;) {
    const answer = await fetch(`/records/search/${name}`);
    if (!answer.ok) return;
    const now = await answer.json();
    box.querySelector("progress").value = now.share;
    box.querySelector(".said").textContent = now.said;
    if (now.hits !== hits || now.state !== "running") {
      hits = now.hits;
      const query = new URLSearchParams(location.search);
      query.set("part", "1");
      if (now.state !== "stopped") put(place, await (await fetch(`/records?${query}`)).text());
      else box.querySelector(".stop")?.remove();
      box = place.querySelector("[data-search]") ?? box;
      if (now.state !== "running") return;
      box.querySelector(".stop")?.addEventListener("click", () => fetch(`/records/search/${name}/stop`, { method: "POST" }));
    }
    await new Promise((done) => setTimeout(done, 400));
  }
}

for (const box of document.querySelectorAll('[data-search][data-state="running"]')) follow(box);

document.addEventListener("click", async (event) => {
  const box = event.target.closest?.(".copy");
  if (!box || !navigator.clipboard) return;
  await navigator.clipboard.writeText(box.textContent.trim());
  box.classList.add("done");
});
