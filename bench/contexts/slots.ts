/** E2E's attributes as JSON: the schema, and how much of it a text got right. */
const values = {
  eatType: ["coffee shop", "pub", "restaurant"],
  food: ["Chinese", "English", "Fast food", "French", "Indian", "Italian", "Japanese"],
  priceRange: ["cheap", "moderate", "high", "less than £20", "£20-25", "more than £30"],
  "customer rating": ["low", "average", "high", "1 out of 5", "3 out of 5", "5 out of 5"],
  area: ["city centre", "riverside"],
  familyFriendly: ["yes", "no"],
} as const;

export const schema = {
  type: "object",
  properties: {
    name: { type: "string", maxLength: 40 },
    ...Object.fromEntries(Object.entries(values).map(([name, texts]) => [name, { enum: texts }])),
    near: { type: "string", maxLength: 40 },
  },
  required: ["name"],
  additionalProperties: false,
};

/** `name[The Mill], area[riverside]`, in the schema's order. */
export function slotsOf(attributes: string): Record<string, string> {
  const found = new Map(
    [...attributes.matchAll(/([\w ]+)\[([^\]]*)\]/g)].map(([, name, value]) => [name!.trim(), value!]),
  );
  return Object.fromEntries(
    Object.keys(schema.properties).flatMap(name => (found.has(name) ? [[name, found.get(name)!]] : [])),
  );
}

/** Micro F1 of attributes with their values, over all texts. */
export function slotF1(given: readonly object[], wanted: readonly object[]): number {
  const pairs = (slots: object) => Object.entries(slots).map(([name, value]) => `${name}=${value}`);
  let [right, said, asked] = [0, 0, 0];
  for (const [index, slots] of given.entries()) {
    const truth = new Set(pairs(wanted[index]!));
    right += pairs(slots).filter(pair => truth.has(pair)).length;
    said += pairs(slots).length;
    asked += truth.size;
  }
  return said + asked === 0 ? 0 : (2 * right) / (said + asked);
}
