/** Hard prompts to choose from, a list a task: wordings, verbalizers, and a few training examples written out. */
import type { Labels } from "../../src/contract/task.ts";
import { type Example, shots } from "./data.ts";

export interface Candidate {
  name: string;
  template: string;
  /** Absent for generation. */
  labels?: Labels;
}

export interface LibraryTask {
  id: string;
  dataset: string;
  type: "classification" | "generation";
  metric: "accuracy" | "macro_f1" | "bleu";
  description: string;
  candidates(train: readonly Example[]): Candidate[];
}

type Wording = (input: string, answer: string) => string;

/** Worked examples, a blank line after each, then the same wording with the field and no answer. */
function fewShot(examples: readonly Example[], word: Wording, answerOf = (label: string) => label): string {
  const written = examples.map(({ input, answer }) => `${word(input, ` ${answerOf(answer)}`)}\n\n`);
  return written.join("") + word("{{ input }}", "");
}

const spoken = (label: string) => label.replace(/[_-]/g, " ");
const chat = (question: string) => `<|im_start|>user\n${question}<|im_end|>\n<|im_start|>assistant\n`;

const sentiment: LibraryTask = {
  id: "sentiment",
  dataset: "sst2",
  type: "classification",
  metric: "accuracy",
  description: "Whether an English sentence, such as one of a film review, is positive or negative.",
  candidates(train) {
    const names = ["positive", "negative"];
    const great = { positive: " great", negative: " terrible" };
    const good = { positive: " good", negative: " bad" };
    const review: Wording = (input, answer) => `Review: ${input}\nSentiment:${answer}`;
    const itWas: Wording = (input, answer) => `${input} It was${answer}`;
    const asGreat = (label: string) => (label === "positive" ? "great" : "terrible");
    return [
      { name: "review-sentiment", template: review("{{ input }}", ""), labels: names },
      { name: "it-was-great", template: itWas("{{ input }}", ""), labels: great },
      { name: "it-was-good", template: itWas("{{ input }}", ""), labels: good },
      {
        name: "question",
        template: "Review: {{ input }}\nQuestion: Is this review positive or negative?\nAnswer:",
        labels: names,
      },
      {
        name: "chat",
        template: chat(
          "Is the sentiment of this movie review positive or negative? Answer with one word.\n\nReview: {{ input }}",
        ),
        labels: { positive: ["positive", "Positive"], negative: ["negative", "Negative"] },
      },
      { name: "review-4-shots", template: fewShot(shots(train, 2, 1), review), labels: names },
      { name: "review-8-shots", template: fewShot(shots(train, 4, 2), review), labels: names },
      { name: "review-16-shots", template: fewShot(shots(train, 8, 3), review), labels: names },
      { name: "it-was-8-shots", template: fewShot(shots(train, 4, 2), itWas, asGreat), labels: great },
      { name: "it-was-16-shots", template: fewShot(shots(train, 8, 3), itWas, asGreat), labels: great },
    ];
  },
};

const questionType: LibraryTask = {
  id: "question-type",
  dataset: "trec",
  type: "classification",
  metric: "accuracy",
  description:
    "What an English question asks for: abbreviation, description, entity, human, location or number (TREC's coarse classes).",
  candidates(train) {
    const names = ["abbreviation", "description", "entity", "human", "location", "number"];
    const plain: Record<string, string> = {
      abbreviation: " abbreviation",
      description: " description",
      entity: " thing",
      human: " person",
      location: " place",
      number: " number",
    };
    const asPlain = (label: string) => plain[label]?.trim() ?? label;
    const type: Wording = (input, answer) => `Question: ${input}\nType:${answer}`;
    const kind: Wording = (input, answer) => `Question: ${input}\nThe answer is a${answer}`;
    const listed = `Kinds of answers: ${Object.values(plain).join(",").trim()}.\n\n`;
    return [
      { name: "type", template: type("{{ input }}", ""), labels: names },
      { name: "answer-is-a", template: kind("{{ input }}", ""), labels: plain },
      { name: "listed", template: `${listed}${kind("{{ input }}", "")}`, labels: plain },
      {
        name: "chat",
        template: chat(
          "What kind of answer does this question ask for: an abbreviation, a description, a thing, a person, a place or a number?\n\nQuestion: {{ input }}",
        ),
        labels: {
          abbreviation: ["abbreviation", "Abbreviation"],
          description: ["description", "Description"],
          entity: ["thing", "Thing"],
          human: ["person", "Person"],
          location: ["place", "Place"],
          number: ["number", "Number"],
        },
      },
      { name: "type-6-shots", template: fewShot(shots(train, 1, 1), type), labels: names },
      { name: "type-12-shots", template: fewShot(shots(train, 2, 2), type), labels: names },
      { name: "type-24-shots", template: fewShot(shots(train, 4, 3), type), labels: names },
      { name: "plain-12-shots", template: fewShot(shots(train, 2, 2), type, asPlain), labels: plain },
      { name: "plain-24-shots", template: fewShot(shots(train, 4, 3), type, asPlain), labels: plain },
      { name: "plain-48-shots", template: fewShot(shots(train, 8, 4), type, asPlain), labels: plain },
    ];
  },
};

const spam: LibraryTask = {
  id: "spam",
  dataset: "sms-spam",
  type: "classification",
  metric: "macro_f1",
  description: "Whether a text message is spam or ham (a message that a person wrote to another).",
  candidates(train) {
    const names = ["ham", "spam"];
    const normal = { ham: " normal", spam: " spam" };
    const yesNo = { ham: " no", spam: " yes" };
    const message: Wording = (input, answer) => `Message: ${input}\nLabel:${answer}`;
    const isSpam: Wording = (input, answer) => `Message: ${input}\nIs this message spam?${answer}`;
    const asNormal = (label: string) => (label === "ham" ? "normal" : "spam");
    const asYesNo = (label: string) => (label === "ham" ? "no" : "yes");
    return [
      { name: "label", template: message("{{ input }}", ""), labels: names },
      { name: "label-normal", template: message("{{ input }}", ""), labels: normal },
      { name: "is-spam", template: isSpam("{{ input }}", ""), labels: yesNo },
      {
        name: "from",
        template: "Text message: {{ input }}\nThis message was sent by a",
        labels: { ham: " friend", spam: " company" },
      },
      {
        name: "chat",
        template: chat("Is this text message spam? Answer yes or no.\n\nMessage: {{ input }}"),
        labels: { ham: ["no", "No"], spam: ["yes", "Yes"] },
      },
      { name: "label-4-shots", template: fewShot(shots(train, 2, 1), message), labels: names },
      { name: "normal-8-shots", template: fewShot(shots(train, 4, 2), message, asNormal), labels: normal },
      { name: "label-16-shots", template: fewShot(shots(train, 8, 3), message), labels: names },
      { name: "normal-16-shots", template: fewShot(shots(train, 8, 3), message, asNormal), labels: normal },
      { name: "is-spam-8-shots", template: fewShot(shots(train, 4, 2), isSpam, asYesNo), labels: yesNo },
    ];
  },
};

const bankingIntent: LibraryTask = {
  id: "banking-intent",
  dataset: "banking77",
  type: "classification",
  metric: "accuracy",
  description: "Which of 77 intents a customer's message to a bank has (Banking77).",
  candidates(train) {
    const names = [...new Set(train.map(({ answer }) => answer))].sort();
    const intent: Wording = (input, answer) => `Message: ${input}\nIntent:${answer}`;
    const about: Wording = (input, answer) =>
      `Customer: ${input}\nThe customer's question is about:${answer}`;
    const listed = `Intents of a bank's customers: ${names.map(spoken).join(", ")}.\n\n`;
    return [
      { name: "intent", template: intent("{{ input }}", ""), labels: names },
      { name: "about", template: about("{{ input }}", ""), labels: names },
      { name: "listed", template: `${listed}${intent("{{ input }}", "")}`, labels: names },
      {
        name: "intent-16-shots",
        template: fewShot(shots(train, 1, 1).slice(0, 16), intent, spoken),
        labels: names,
      },
      {
        name: "about-16-shots",
        template: fewShot(shots(train, 1, 1).slice(0, 16), about, spoken),
        labels: names,
      },
      { name: "intent-77-shots", template: fewShot(shots(train, 1, 1), intent, spoken), labels: names },
      { name: "about-77-shots", template: fewShot(shots(train, 1, 2), about, spoken), labels: names },
    ];
  },
};

const dataToText: LibraryTask = {
  id: "data-to-text",
  dataset: "e2e",
  type: "generation",
  metric: "bleu",
  description: "An English sentence or two from the attributes of a restaurant (E2E).",
  candidates(train) {
    // Turns of a chat end with the model's own end of text, so a worked example also shows where to stop.
    const turn: Wording = (input, answer) =>
      `<|im_start|>user\n${input}<|im_end|>\n<|im_start|>assistant\n${answer.trim()}${answer === "" ? "" : "<|im_end|>\n"}`;
    const turns = (examples: readonly Example[]) =>
      examples.map(({ input, answer }) => turn(input, answer)).join("") + turn("{{ input }}", "");
    const instruction = "Write a short description of the restaurant from its attributes.";
    return [
      { name: "chat", template: chat(`${instruction} Use all of them.\n\n{{ input }}`) },
      {
        name: "chat-one-sentence",
        template: chat(
          `Put this data about a restaurant into one sentence, without adding anything: {{ input }}`,
        ),
      },
      { name: "chat-2-shots", template: turns(varied(train, 2, 1)) },
      { name: "chat-4-shots", template: turns(varied(train, 4, 2)) },
      { name: "chat-8-shots", template: turns(varied(train, 8, 3)) },
      {
        name: "system-8-shots",
        template: `<|im_start|>system\n${instruction}<|im_end|>\n${turns(varied(train, 8, 4))}`,
      },
      { name: "chat-16-shots", template: turns(varied(train, 16, 5)) },
    ];
  },
};

/** Examples that keep to the data: different inputs, and every named value is in the text. */
function varied(train: readonly Example[], count: number, seed: number): Example[] {
  const seen = new Set<string>();
  const wanted = shots(
    train.map(({ input, answer }) => ({ input, answer: answer.replace(/\s+/g, " ").trim() })),
    1,
    seed,
  );
  return wanted
    .filter(({ input, answer }) => {
      const named = [...input.matchAll(/(?:name|near|food)\[([^\]]+)\]/g)].map(([, value]) => value!);
      if (seen.has(input) || !named.every(value => answer.includes(value)) || !answer.endsWith("."))
        return false;
      seen.add(input);
      return true;
    })
    .slice(0, count);
}

export const libraryTasks: readonly LibraryTask[] = [
  sentiment,
  questionType,
  spam,
  bankingIntent,
  dataToText,
];
