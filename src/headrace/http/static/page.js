// Charts from the data that the server put beside them, in the colours of the style sheet.
(() => {
  const root = document.documentElement;
  const drawn = new Map();
  const symbols = ["circle", "rect", "triangle", "diamond", "emptyCircle", "emptyRect", "emptyTriangle", "emptyDiamond"];
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  const colours = () => {
    const style = getComputedStyle(root);
    const of = (name) => style.getPropertyValue(name).trim();
    return {
      text: of("--text"), soft: of("--soft"), grid: of("--grid"), line: of("--line"), card: of("--card"),
      series: Array.from({ length: 8 }, (_, i) => of(`--series-${i + 1}`)), font: style.getPropertyValue("--font").trim(),
    };
  };

  const number = new Intl.NumberFormat("en", { maximumFractionDigits: 4 });
  const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
  const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
  const minute = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZone: "UTC" });
  const dayOnly = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
  const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: "UTC" });
  const axisDay = (value) => {
    const moment = new Date(value);
    if (moment.getTime() % 86_400_000) return clock.format(moment);
    return moment.getUTCMonth() === 0 && moment.getUTCDate() === 1 ? String(moment.getUTCFullYear()) : dayOnly.format(moment);
  };
  const when = (value) => (new Date(value).getTime() % 86_400_000 ? minute : day).format(new Date(value));
  const exact = (value) => (value === null || value === undefined ? "–" : typeof value === "string" ? value.replace(/\B(?=(\d{3})+(?=\.|$))(?<!\..*)/g, ",") : number.format(value));

  // Tooltips are built from nodes and text: a value can never become markup, and no style attribute is needed.
  const tooltip = (data, horizontal) => (items) => {
    const list = Array.isArray(items) ? items : [items];
    const box = document.createElement("div");
    box.className = "tip";
    const head = document.createElement("p");
    const x = list[0]?.data?.x;
    head.textContent = data.time ? when(x) : String(x);
    box.append(head);
    const rows = document.createElement("dl");
    for (const item of list.filter((i) => i.data && i.data.y !== null)) {
      const name = document.createElement("dt");
      name.dataset.series = String((item.seriesIndex % 8) + 1);
      name.textContent = item.seriesName;
      const value = document.createElement("dd");
      value.textContent = exact(item.data.y) + (data.unit ? ` ${data.unit}` : "");
      rows.append(name, value);
    }
    box.append(rows);
    return box;
  };

  const options = (data, width) => {
    const c = colours();
    const line = data.kind === "line";
    const horizontal = !line && !data.time;
    const categories = data.time ? null : data.places.map(String);
    const label = { color: c.soft, fontSize: 12, hideOverlap: true };
    const values = {
      type: "value", axisLabel: { ...label, formatter: (v) => short.format(v) }, splitLine: { lineStyle: { color: c.grid } },
      minInterval: data.whole ? 1 : undefined, splitNumber: width < 480 ? 3 : 5,
    };
    const names = {
      ...(data.time ? { type: "time", minInterval: data.days ? 86_400_000 : undefined } : { type: "category", data: categories, inverse: horizontal }),
      axisLabel: { ...label, ...(data.time ? { formatter: axisDay } : {}), ...(horizontal ? { width: Math.min(160, width * 0.3), overflow: "truncate" } : {}) },
      axisLine: { lineStyle: { color: c.line } }, axisTick: { show: false }, splitLine: { show: false },
    };
    const point = ([x, y]) => {
      const place = data.time ? Date.parse(x) : String(x);
      const size = y === null ? null : Number(y);
      return { value: horizontal ? [size, place] : [place, size], x, y };
    };
    return {
      useUTC: true,
      animation: !still.matches, animationDuration: 300,
      color: c.series,
      textStyle: { fontFamily: c.font, color: c.text },
      grid: { left: 8, right: 20, top: data.split ? 40 : 12, bottom: 6, outerBoundsMode: "same", outerBoundsContain: "axisLabel" },
      legend: data.split
        ? { type: "scroll", top: 0, left: 0, right: 0, itemWidth: 14, itemHeight: 9, itemGap: 14, icon: line ? undefined : "roundRect", textStyle: { color: c.text, fontSize: 12 },
            pageTextStyle: { color: c.soft }, pageIconColor: c.text, pageIconInactiveColor: c.line, inactiveColor: c.line }
        : { show: false },
      tooltip: { trigger: line || data.time ? "axis" : "item", confine: true, className: "tip-box", formatter: tooltip(data, horizontal),
        axisPointer: { type: line ? "line" : "shadow", lineStyle: { color: c.line }, shadowStyle: { color: c.grid, opacity: 0.5 } } },
      xAxis: horizontal ? values : names,
      yAxis: horizontal ? names : values,
      series: data.series.map((s, i) => ({
        name: s.name, type: data.kind, data: s.points.map(point), stack: data.stacked ? "all" : undefined,
        ...(line
          ? { symbol: symbols[i % symbols.length], symbolSize: 6, showSymbol: s.points.length < 40, lineStyle: { width: 2, type: i < 8 ? "solid" : "dashed" },
              emphasis: { focus: "series" }, connectNulls: false }
          : { barMaxWidth: horizontal ? 26 : 40, itemStyle: { borderRadius: data.split ? 0 : horizontal ? [0, 4, 4, 0] : [4, 4, 0, 0] } }),
      })),
    };
  };

  const height = (data) => {
    if (data.kind !== "bar" || data.time) return null;
    return Math.max(180, Math.min(900, data.places.length * 34 + 60));
  };

  const draw = (place) => {
    const script = place.querySelector("script");
    if (!script || drawn.has(place)) return;
    const data = JSON.parse(script.textContent);
    const tall = height(data);
    if (tall) place.style.minHeight = place.style.flexBasis = `${tall}px`;
    const canvas = document.createElement("div");
    canvas.className = "canvas";
    place.append(canvas);
    const chart = echarts.init(canvas, null, { renderer: "canvas" });
    chart.setOption({ ...options(data, place.clientWidth), ...(anew ? { animation: false } : {}) });
    drawn.set(place, { chart, data });
    sizes.observe(place);
  };

  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const known = drawn.get(target);
      if (known) {
        known.chart.resize();
        known.chart.setOption(options(known.data, target.clientWidth));
      }
    }
  });

  const drawAll = () => {
    for (const [place, { chart }] of drawn) {
      if (!place.isConnected) {
        sizes.unobserve(place);
        chart.dispose();
        drawn.delete(place);
      }
    }
    document.querySelectorAll(".chart").forEach(draw);
  };

  document.addEventListener("headrace:theme", () => {
    for (const [place, { chart, data }] of drawn) chart.setOption(options(data, place.clientWidth), { notMerge: true });
  });
  document.addEventListener("htmx:after:swap", drawAll);
  // The URL of a page says what it shows: leave out what is empty.
  document.addEventListener("submit", (event) => {
    for (const field of event.target.elements) if (field.name && field.value === "") field.disabled = true;
    setTimeout(() => { for (const field of event.target.elements) field.disabled = false; });
  });
  const form = document.querySelector("form.filters");
  document.addEventListener("htmx:before:request", () => anew || form?.classList.add("is-busy"));
  document.addEventListener("htmx:finally:request", () => form?.classList.remove("is-busy"));
  // A page that shows itself anew waits while somebody fills in a filter, reads a chart's table or looks elsewhere.
  let anew = false;
  const refresh = () => {
    const board = document.querySelector("#board[data-refresh]");
    if (!board) return;
    setTimeout(refresh, Number(board.dataset.refresh) * 1000);
    const busy = form?.contains(document.activeElement) || board.querySelector("details[open]") || board.contains(document.activeElement);
    if (document.hidden || busy) return;
    anew = true;
    const done = () => { anew = false; };
    htmx.ajax("GET", location.pathname + location.search, { target: "#board", select: "#board", swap: "outerHTML", selectOOB: "#fresh,#filters" }).then(done, done);
  };
  const first = document.querySelector("#board[data-refresh]");
  if (first) setTimeout(refresh, Number(first.dataset.refresh) * 1000);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", drawAll);
  else drawAll();
})();
