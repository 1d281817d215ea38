import { Ajv } from "ajv";
import addFormats from "ajv-formats";
import type { FastifySchemaCompiler } from "fastify";

const options = {
  allErrors: false,
  useDefaults: true,
  removeAdditional: false,
  strict: false,
  discriminator: true,
} as const;
const formats = (ajv: Ajv) => (addFormats as unknown as (ajv: Ajv) => Ajv)(ajv);
/** A body says what it means; the texts of paths and queries become the numbers and booleans that the schema asks for. */
const strict = formats(new Ajv(options));
const coercing = formats(new Ajv({ ...options, coerceTypes: true }));

export const validatorCompiler: FastifySchemaCompiler<object> = ({ schema, httpPart }) => {
  if (httpPart === "body") return strict.compile(schema);
  // An unknown parameter of a query would be ignored, though its author meant something by it.
  return coercing.compile(httpPart === "querystring" ? { ...schema, additionalProperties: false } : schema);
};
