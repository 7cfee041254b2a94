"use strict";
// Zoom, pan, tooltips and jumps for the timeline. Without this the page can be read all the same.
// What is drawn says where it is: data-a (and data-b, where it lasts) between 0 and 1.
(() => {
  const svg = document.getElementById("gk");
  const tip = document.getElementById("tip");
  if (!svg || !tip) return;
  const LEFT = Number(svg.dataset.left), RIGHT = Number(svg.dataset.right);
  const SMALLEST = 0.0005, CHARACTER = 6.1;
  const SPACE = "http://www.w3.org/2000/svg";
  const knots = svg.dataset.knots.split(";").map((pair) => pair.split(",").map(Number));
  const rows = svg.dataset.rows.split(";").map((pair) => pair.split(",").map(Number));
  const front = svg.querySelector(".front");
  const grid = svg.querySelector(".grid-lines");
  let low = 0, high = 1;

  // -- what is drawn, each with its place

  const movers = [...svg.querySelectorAll("[data-a]")]
    .filter((element) => !element.classList.contains("t"))
    .map((element) => ({
      element,
      a: Number(element.dataset.a),
      b: element.dataset.b === undefined ? null : Number(element.dataset.b),
      box: element.dataset.b === undefined ? null : element.querySelector("rect"),
      labels: [...element.querySelectorAll("text.l")],
    }));
  const stretched = [...svg.querySelectorAll(".s")];
  const items = movers.filter(({ element }) => element.classList.contains("i"));
  const byElement = new Map(items.map((item) => [item.element, item]));
  for (const item of items) {
    const title = item.element.querySelector("title");
    item.text = title ? title.textContent : "";
    item.lane = Number(item.element.dataset.lane);
    item.element.setAttribute("role", "img");
    item.element.setAttribute("aria-label", item.text);
    item.element.setAttribute("tabindex", "-1");
    // a tooltip of ours comes instead of the browser's, and at once
    if (title) title.remove();
  }
  const lanes = rows.map((_, lane) =>
    items.filter((item) => item.lane === lane).sort((one, other) => one.a - other.a));

  // -- zoom and pan

  const x = (place) => LEFT + ((place - low) / (high - low)) * (RIGHT - LEFT);
  const short = (value) => Number(value.toFixed(2));

  const draw = () => {
    for (const { element, a, b, box, labels } of movers) {
      const left = x(a), right = b === null ? left : x(b);
      const seen = right >= LEFT - 20 && left <= RIGHT + 20;
      element.style.display = seen ? "" : "none";
      if (!seen) continue;
      // what reaches out of the picture is cut, so that its label stays in sight
      const from = Math.max(left, LEFT - 4), to = Math.min(right, RIGHT + 14);
      element.setAttribute("transform", `translate(${short(b === null ? left : from)})`);
      if (!box) continue;
      const width = Math.max(to - from, 1.5);
      box.setAttribute("width", short(width));
      for (const label of labels) {
        const words = (label.dataset.words ??= label.textContent);
        const room = Math.floor((width - 8) / CHARACTER);
        label.textContent = words.length <= room ? words : `${words.slice(0, room - 1).trimEnd()}\u2026`;
        label.setAttribute("x", left < LEFT ? 8 : 4);
        label.setAttribute("visibility", words.length <= room || room >= 6 ? "visible" : "hidden");
      }
    }
    const times = (RIGHT - LEFT) / (high - low);
    for (const path of stretched)
      path.setAttribute("transform", `matrix(${times} 0 0 1 ${LEFT - low * times} 0)`);
    // for whoever asks what is shown
    [svg.dataset.from, svg.dataset.to] = [moment(low), moment(high)];
    axis();
    point();
  };

  const show = (from, to) => {
    const length = Math.min(Math.max(to - from, SMALLEST), 1);
    low = Math.min(Math.max((from + to - length) / 2, 0), 1 - length);
    high = low + length;
    draw();
  };
  const zoom = (factor, around) => {
    const middle = around === undefined ? (low + high) / 2 : Math.min(Math.max(around, 0), 1);
    show(middle - (middle - low) * factor, middle + (high - middle) * factor);
  };
  const pan = (share) => {
    const length = high - low;
    const from = Math.min(Math.max(low + share * length, 0), 1 - length);
    show(from, from + length);
  };

  // -- the axis

  const moment = (place) => {
    let at = 1;
    while (at < knots.length - 1 && knots[at][0] < place) at += 1;
    const [[p, t], [q, u]] = [knots[at - 1], knots[at]];
    return q > p ? t + ((u - t) * (place - p)) / (q - p) : t;
  };
  const placeOf = (time) => {
    let at = 1;
    while (at < knots.length - 1 && knots[at][1] < time) at += 1;
    const [[p, t], [q, u]] = [knots[at - 1], knots[at]];
    return u > t ? p + ((q - p) * (time - t)) / (u - t) : p;
  };
  const stamp = (time, digits) => `t${time < 0 ? "-" : "+"}${Math.abs(time).toFixed(digits)}`;
  const round = (rough) => {
    const power = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 5, 10].map((times) => times * power).find((step) => step >= rough);
  };
  const tick = (place, words) => {
    const group = document.createElementNS(SPACE, "g");
    const line = document.createElementNS(SPACE, "path");
    const text = document.createElementNS(SPACE, "text");
    const [top, bottom] = [rows[0][0], rows[rows.length - 1][0] + rows[rows.length - 1][1]];
    group.setAttribute("class", "m t");
    group.setAttribute("transform", `translate(${short(x(place))})`);
    line.setAttribute("d", `M0 ${top}V${bottom}`);
    line.setAttribute("class", "grid");
    text.setAttribute("y", top - 8);
    text.setAttribute("class", "tick");
    text.textContent = words;
    group.append(line, text);
    grid.append(group);
  };
  const axis = () => {
    grid.replaceChildren();
    if (knots.length === 2) {
      const [from, to] = [moment(low), moment(high)];
      const step = round((to - from) / 10);
      const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
      for (let number = Math.ceil(from / step); number * step <= to; number += 1)
        tick(placeOf(number * step), number === 0 ? "t+0" : stamp(number * step, digits));
      return;
    }
    let last = -1, told = "";
    for (const [place, time] of knots) {
      const words = stamp(time, 3);
      if (place > high || words === told || x(place) < LEFT + 20) continue;
      if (last >= 0 && x(place) - x(last) < 80) continue;
      tick(place, words);
      [last, told] = [place, words];
    }
  };

  // -- what an item says, and whom it waits for

  let shown = null;
  const middle = (lane) => rows[lane][0] + rows[lane][1] / 2;
  const point = () => {
    for (const old of svg.querySelectorAll(".lit, .hover")) old.remove();
    if (!shown) return;
    const { owner, lock } = shown.element.dataset;
    for (const lane of [owner, lock]) {
      if (lane === undefined) continue;
      const lit = document.createElementNS(SPACE, "rect");
      const [top, height] = rows[Number(lane)];
      for (const [name, value] of Object.entries({ y: top, height, width: RIGHT + 12 }))
        lit.setAttribute(name, value);
      lit.setAttribute("class", "lit");
      front.before(lit);
    }
    if (owner === undefined || Number(owner) === shown.lane) return;
    const place = Math.min(Math.max((shown.a + (shown.b ?? shown.a)) / 2, low), high);
    const [from, to] = [middle(shown.lane), middle(Number(owner))];
    const arrow = document.createElementNS(SPACE, "path");
    arrow.setAttribute("class", "arrow hover");
    arrow.setAttribute("transform", `translate(${short(x(place))})`);
    arrow.setAttribute("d", `M0 ${from}C30 ${from} 30 ${to} 3 ${to}`);
    front.append(arrow);
  };
  const say = (item, at) => {
    shown = item;
    point();
    tip.textContent = item.text;
    tip.hidden = false;
    const box = at ?? item.element.getBoundingClientRect();
    const left = at ? at.x + 14 : Math.max(box.left, svg.getBoundingClientRect().left) + 10;
    const top = at ? at.y + 16 : box.bottom + 6;
    const widest = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(Math.min(left, widest), 4) + window.scrollX}px`;
    tip.style.top = `${top + window.scrollY}px`;
  };
  const hush = () => {
    shown = null;
    tip.hidden = true;
    point();
  };

  // -- the focus goes from item to item: one stop for Tab, arrows from there

  let current = null;
  const select = (item) => {
    if (!item) return;
    if (current) current.element.setAttribute("tabindex", "-1");
    current = item;
    item.element.setAttribute("tabindex", "0");
    const until = item.b ?? item.a;
    if (until < low || item.a > high) show(item.a - (high - low) / 2, item.a + (high - low) / 2);
    item.element.focus();
    say(item);
  };
  const near = (lane, place) => lane.reduce((best, item) => {
    const distance = ({ a, b }) => (a <= place && (b ?? a) >= place ? 0 : Math.abs(a - place));
    return !best || distance(item) < distance(best) ? item : best;
  }, null);
  const neighbour = (item, by) => {
    const lane = lanes[item.lane];
    return lane[lane.indexOf(item) + by];
  };
  const across = (item, by) => {
    for (let lane = item.lane + by; lane >= 0 && lane < lanes.length; lane += by)
      if (lanes[lane].length) return near(lanes[lane], item.a);
    return null;
  };
  const owner = (item) => {
    const lane = item.element.dataset.owner;
    return lane === undefined ? null : near(lanes[Number(lane)], (item.a + (item.b ?? item.a)) / 2);
  };

  svg.addEventListener("keydown", (event) => {
    const item = byElement.get(document.activeElement) ?? current;
    if (!item || event.ctrlKey || event.metaKey || event.altKey) return;
    const around = Math.min(Math.max(item.a, low), high);
    const moves = {
      ArrowRight: () => (event.shiftKey ? pan(0.2) : select(neighbour(item, 1))),
      ArrowLeft: () => (event.shiftKey ? pan(-0.2) : select(neighbour(item, -1))),
      ArrowDown: () => select(across(item, 1)),
      ArrowUp: () => select(across(item, -1)),
      Home: () => select(lanes[item.lane][0]),
      End: () => select(lanes[item.lane][lanes[item.lane].length - 1]),
      Enter: () => select(owner(item)),
      "+": () => zoom(0.5, around),
      "=": () => zoom(0.5, around),
      "-": () => zoom(2, around),
      0: () => show(0, 1),
    };
    if (!Object.hasOwn(moves, event.key)) return;
    event.preventDefault();
    moves[event.key]();
    if (shown) say(shown);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hush();
  });
  // not of the svg itself: Chromium takes one that listens for the focus for a stop of Tab
  svg.parentElement.addEventListener("focusin", (event) => {
    const item = byElement.get(event.target);
    if (item) say(item);
  });
  svg.parentElement.addEventListener("focusout", hush);

  // -- the mouse

  const placeAt = (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    return low + ((at - LEFT) / (RIGHT - LEFT)) * (high - low);
  };
  let dragged = null;
  svg.addEventListener("pointermove", (event) => {
    if (dragged) return;
    const item = byElement.get(event.target.closest?.(".i"));
    if (item) say(item, { x: event.clientX, y: event.clientY });
    else if (shown && shown.element !== document.activeElement) hush();
  });
  svg.addEventListener("pointerleave", () => {
    const item = byElement.get(document.activeElement);
    if (item) say(item);
    else hush();
  });
  svg.addEventListener("pointerdown", (event) => {
    if (event.button === 0) dragged = { place: placeAt(event), from: event.clientX, moved: false };
  });
  // it may be dragged out of the picture, and be let go there
  window.addEventListener("pointermove", (event) => {
    if (event.buttons === 0) dragged = null;
    if (!dragged) return;
    dragged.moved ||= Math.abs(event.clientX - dragged.from) > 3;
    if (dragged.moved) pan((dragged.place - placeAt(event)) / (high - low));
  });
  window.addEventListener("click", () => { dragged = null; });
  window.addEventListener("pointercancel", () => { dragged = null; });
  window.addEventListener("pointerup", (event) => {
    // the click that ends a drag is none; where it ends elsewhere there is none
    if (dragged && !svg.contains(event.target)) dragged = null;
  });
  svg.addEventListener("click", (event) => {
    const item = byElement.get(event.target.closest?.(".i"));
    if (item && !dragged?.moved) select(item);
  });
  svg.addEventListener("dblclick", (event) => zoom(0.4, placeAt(event)));
  svg.addEventListener("wheel", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) {
      event.preventDefault();
      zoom(event.deltaY > 0 ? 1.25 : 0.8, placeAt(event));
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      pan((event.deltaX || event.deltaY) / 1000);
    }
  }, { passive: false });

  // -- from a verdict, or a step, to its moment

  const go = (id) => {
    const item = byElement.get(document.getElementById(id));
    if (!item) return false;
    show(item.a - 0.15, (item.b ?? item.a) + 0.15);
    item.element.scrollIntoView({ block: "center" });
    select(item);
    return true;
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a.go");
    if (link && go(link.hash.slice(1))) event.preventDefault();
  });
  const buttons = {
    "zoom-in": () => zoom(0.5, current ? current.a : undefined),
    "zoom-out": () => zoom(2, current ? current.a : undefined),
    earlier: () => pan(-0.25),
    later: () => pan(0.25),
    whole: () => show(0, 1),
  };
  for (const [id, action] of Object.entries(buttons))
    document.getElementById(id).addEventListener("click", action);
  document.querySelector(".bar").hidden = false;

  current = items.find(({ element }) => element.classList.contains("pinned")) ?? items[0] ?? null;
  if (current) current.element.setAttribute("tabindex", "0");
  window.addEventListener("beforeprint", () => { hush(); show(0, 1); });
  draw();
  if (location.hash) go(location.hash.slice(1));
})();
