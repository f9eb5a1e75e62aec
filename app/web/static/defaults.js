// A recipe without the options that merely repeat a default.

export function setOptions(steps, { items }) {
  const schemas = new Map(items.map((technique) => [technique.name, technique.options.properties]));
  return steps.map(({ technique, ...options }) => {
    const known = schemas.get(technique) ?? {};
    const differs = ([name, value]) => JSON.stringify(value) !== JSON.stringify(known[name]?.default ?? null);
    return { technique, ...Object.fromEntries(Object.entries(options).filter(differs)) };
  });
}
