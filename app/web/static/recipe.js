// The recipe builder, drawn from the JSON Schemas of GET /v1/techniques: no technique is known here by name.

import { byId, h } from "/static/dom.js";

const words = (name) => name.replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase());
const kinds = (schema) => (schema.anyOf ?? [schema]).filter((part) => part.type !== "null");
const optional = (schema) => (schema.anyOf ?? []).some((part) => part.type === "null");

export class RecipeBuilder {
  constructor(techniques, onChange) {
    this.techniques = new Map(techniques.map((technique) => [technique.name, technique]));
    this.steps = [];
    this.onChange = onChange;
    this.drawAdd();
    this.draw();
  }

  value() {
    return { version: 1, steps: this.steps.map((step) => ({ technique: step.technique, ...step.options })) };
  }

  set(steps) {
    this.steps = steps.map(({ technique, ...options }) => ({ technique, options }));
    this.draw();
  }

  drawAdd() {
    const select = h("select", { id: "technique", "aria-label": "Technique to add" },
      [...this.techniques.values()].map((technique) => h("option", { value: technique.name }, technique.title)));
    const add = h("button", { type: "button", onclick: () => this.add(select.value) }, "Add step");
    byId("add-step").replaceChildren(select, add);
  }

  add(name) {
    this.steps.push({ technique: name, options: {} });
    this.draw();
    byId("steps").lastElementChild.querySelector("h3").focus();
  }

  move(index, by) {
    const [step] = this.steps.splice(index, 1);
    if (by) this.steps.splice(index + by, 0, step);
    this.draw();
    byId("steps").children[Math.min(index + by, this.steps.length - 1)]?.querySelector("h3").focus();
  }

  draw() {
    const list = byId("steps");
    list.replaceChildren(...this.steps.map((step, index) => this.card(step, index)));
    if (!this.steps.length) list.append(h("li", { class: "empty" }, "No step yet. Take a ready-made recipe above, or add steps one by one."));
    this.onChange();
  }

  card(step, index) {
    const technique = this.techniques.get(step.technique);
    const fields = Object.entries(technique.options.properties).filter(([name]) => name !== "technique");
    const button = (label, sign, by, disabled) =>
      h("button", { type: "button", class: "small", "aria-label": `${label} step ${index + 1}, ${technique.title}`, title: label, disabled,
        onclick: () => this.move(index, by) }, sign);
    const main = fields.filter(([name]) => !TRAINING.has(name));
    const training = fields.filter(([name]) => TRAINING.has(name));
    const grid = (some) => h("div", { class: "grid" }, some.map(([name, schema]) => this.field(step, index, name, schema)));
    return h("li", { class: "step" },
      h("div", { class: "step-head" },
        h("div", {}, h("h3", { tabindex: "-1" }, `${index + 1}. ${technique.title}`), h("p", { class: "help" }, technique.summary, " ",
          technique.needs_labels ? "Needs labels. " : technique.needs_data ? "Needs data. " : "",
          h("a", { href: technique.paper, rel: "noreferrer" }, "paper"))),
        button("Move up", "↑", -1, index === 0), button("Move down", "↓", 1, index === this.steps.length - 1), button("Remove", "✕", 0, false)),
      h("p", { class: "field-error", "data-pointer": `/recipe/steps/${index}` }),
      main.length ? grid(main) : null,
      training.length ? h("details", { class: "options" }, h("summary", {}, "Training options"), grid(training)) : null);
  }

  field(step, index, name, schema) {
    const id = `step-${index}-${name}`;
    const pointer = `/recipe/steps/${index}/${name}`;
    const input = this.input(step, name, schema, id);
    input.dataset.pointer = pointer;
    input.setAttribute("aria-describedby", `${id}-help`);
    const label = h("label", { for: id, id: `${id}-label` }, words(name));
    if (input.getAttribute("role") === "group") input.setAttribute("aria-labelledby", label.id);
    const help = h("p", { class: "help", id: `${id}-help` }, schema.description ?? "");
    const fault = h("p", { class: "field-error", "data-error": pointer });
    return h("div", { class: input.type === "checkbox" ? "field check" : "field" }, input.type === "checkbox" ? [input, label] : [label, input], help, fault);
  }

  input(step, name, schema, id) {
    const kind = kinds(schema)[0] ?? schema;
    const now = step.options[name] ?? schema.default;
    const keep = (value) => {
      if (value === undefined || value === schema.default) delete step.options[name];
      else step.options[name] = value;
      this.onChange();
    };
    if (kind.type === "boolean") return h("input", { id, type: "checkbox", checked: now === true, onchange: (event) => keep(event.target.checked) });
    if (kind.enum) {
      const choices = [optional(schema) ? h("option", { value: "" }, "not set") : null,
        ...kind.enum.map((choice) => h("option", { value: choice, selected: choice === now }, choice))];
      return h("select", { id, onchange: (event) => keep(event.target.value || undefined) }, choices);
    }
    if (kind.type === "array" && kind.items?.enum) return choicesOf(kind.items.enum, now ?? [], id, keep);
    if (kind.type === "array") {
      const value = ["number", "integer"].includes(kind.items?.type) ? Number : (part) => part.trim();
      const split = (event) => keep(event.target.value.trim() ? event.target.value.split(",").map(value) : undefined);
      return h("input", { id, value: (now ?? []).join(", "), placeholder: "none; separate by commas", oninput: split });
    }
    const numeric = ["number", "integer"].includes(kind.type);
    const read = (event) => keep(event.target.value === "" ? undefined : numeric ? Number(event.target.value) : event.target.value);
    return h("input", {
      id, type: numeric ? "number" : "text", step: kind.type === "integer" ? 1 : "any", min: kind.minimum ?? kind.exclusiveMinimum,
      max: kind.maximum ?? kind.exclusiveMaximum, value: now ?? "", placeholder: "not set", oninput: read,
    });
  }
}

// A box for each choice of a list; all as they were by default is no choice at all.
function choicesOf(choices, chosen, id, keep) {
  const boxes = choices.map((choice) => h("input", { type: "checkbox", value: choice, checked: chosen.includes(choice), onchange: () => {
    const now = boxes.filter((box) => box.checked).map((box) => box.value);
    keep(now.length === choices.length && chosen.length === choices.length ? undefined : now);
  } }));
  return h("div", { id, role: "group", class: "choices" }, boxes.map((box) => h("label", { class: "choice" }, box, words(box.value))));
}

// Options that every training step has; they stay folded so that a step's own options stand out.
const TRAINING = new Set(["epochs", "learning_rate", "batch_size", "patience", "mixup", "max_minutes", "weight_decay"]);
