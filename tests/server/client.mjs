// The official JavaScript client: once whole, once as a stream. Prints what it got as JSON.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.SERVER, apiKey: process.env.KEY, maxRetries: 0 });
const request = { model: "personalagent", user: "dora", messages: [{ role: "user", content: "I'm vegan" }] };
const whole = await client.chat.completions.create(request);
let streamed = "";
for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}
const models = await client.models.list();
console.log(JSON.stringify({ whole: whole.choices[0].message.content, streamed, models: models.data.map((each) => each.id) }));
