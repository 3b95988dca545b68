"use strict";
// A judgement counts once the server has said that it is on the disk; only then the next card is loaded.
(() => {
  const card = document.getElementById("review");
  const problem = document.getElementById("problem");
  const note = document.getElementById("note");
  const slots = [...card.querySelectorAll(".slots input")];
  const buttons = [...card.querySelectorAll("button[data-verdict]")];
  let busy = false;

  const show = (text) => {
    problem.textContent = text;
    problem.hidden = !text;
  };

  const scores = () => {
    const found = {};
    for (const input of slots) {
      if (!input.reportValidity()) return null;
      if (input.value !== "") found[input.name] = Number(input.value);
    }
    return found;
  };

  const judge = async (verdict) => {
    if (busy) return;
    const given = verdict === "undo" ? {} : scores();
    if (given === null) return;
    busy = true;
    show("");
    const { reviewer, place } = card.dataset;
    const body = { reviewer, place: Number(place), verdict, scores: given, note: note ? note.value : "" };
    try {
      const answer = await fetch("/judge", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      });
      if (answer.ok) {
        location.assign(`/?reviewer=${encodeURIComponent(reviewer)}`);
        return;
      }
      const text = await answer.text();
      let said = text;
      try {
        said = JSON.parse(text).problem;
      } catch {
        // not JSON: the door answers in plain text
      }
      show(`Not saved: ${said}`);
    } catch {
      show("Not saved: the server does not answer. Start it again, and press the key again.");
    }
    busy = false;
  };

  for (const button of buttons) button.addEventListener("click", () => judge(button.dataset.verdict));

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const at = document.activeElement;
    if (event.key === "Escape") {
      at.blur();
      return;
    }
    if (at === note) {
      if (event.key === "Enter") note.blur();
      return;
    }
    const place = slots.indexOf(at);
    if (slots.length && (event.key === "ArrowDown" || event.key === "ArrowUp" || (event.key === "Enter" && place >= 0))) {
      if (place < 0 && event.key !== "ArrowDown") return;
      event.preventDefault();
      const next = slots[place + (event.key === "ArrowUp" ? -1 : 1)];
      if (next) {
        next.focus();
        next.select();
      } else {
        at.blur();
      }
      return;
    }
    if (event.key === "n" && note) {
      event.preventDefault();
      note.focus();
      return;
    }
    const button = buttons.find((one) => one.dataset.key === event.key.toLowerCase() && !one.disabled);
    if (button) {
      event.preventDefault();
      judge(button.dataset.verdict);
    }
  });
})();
