// server.mjs MODEL.gguf [SLOTS] - a real engine for tests: llama.cpp behind the completions API of vLLM.
//
// llama.cpp comes prebuilt inside the npm package node-llama-cpp, which has no server of its own. Prints port=N once it
// serves, on 127.0.0.1. Tokens are drawn here, from the whole distribution, so that a seed means the same text each time.
// One ggml thread: more of them spin at barriers, and steal the machine from whoever shares it.
import http from "node:http";
import {getLlama} from "node-llama-cpp";

const [file, slots = "8"] = process.argv.slice(2);
const llama = await getLlama({gpu: false, build: "never", progressLogs: false, logLevel: "error", maxThreads: 1});
const model = await llama.loadModel({modelPath: file});
const context = await model.createContext({sequences: +slots, contextSize: model.trainContextSize, threads: 1});
const free = Array.from({length: +slots}, () => context.getSequence());
const waiters = [];
const counts = {running: 0, prompt: 0, generated: 0, finished: 0, aborted: 0, running_max: 0};
const NAME = "tiny";

// -- slots ------------------------------------------------------------------------------------------------------------

async function acquire() {
    const sequence = free.pop() ?? await new Promise((resolve) => waiters.push(resolve));
    counts.running_max = Math.max(counts.running_max, ++counts.running);
    return sequence;
}

function release(sequence) {
    counts.running--;
    const next = waiters.shift();
    if (next)
        next(sequence);
    else
        free.push(sequence);
}

// -- one rollout ------------------------------------------------------------------------------------------------------

function random(seed) { // mulberry32
    return () => {
        seed = (seed + 0x6D2B79F5) | 0;
        let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
        t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
        return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
}

// The distributions behind each of these tokens, likeliest first, before temperature.
async function distributions(sequence, tokens, from) {
    const input = tokens.map((t, i) => i < from ? t : [t, {generateNext: {probabilities: true}}]);
    return (await sequence.controlledEvaluate(input)).slice(from).map((out) => [...out.next.probabilities]);
}

function draw(probabilities, temperature, rand) {
    if (temperature === 0)
        return probabilities[0];
    const weights = probabilities.map(([, p]) => p ** (1 / temperature));
    let left = rand() * weights.reduce((a, b) => a + b, 0);
    let k = 0;
    while (k < weights.length - 1 && (left -= weights[k]) >= 0)
        k++;
    return probabilities[k];
}

class Choice {
    constructor(index) {
        Object.assign(this, {index, text: "", finish_reason: null, stop_reason: null, generated: 0});
        this.logprobs = {text_offset: [], token_logprobs: [], tokens: [], top_logprobs: []};
        this.token_ids = [];
    }

    add(token, probability, probabilities, k) {
        const text = token === model.tokens.eos ? "" : model.detokenize([token]);
        this.logprobs.text_offset.push(this.text.length);
        this.logprobs.token_logprobs.push(Math.log(probability));
        this.logprobs.tokens.push(text);
        this.logprobs.top_logprobs.push(
            Object.fromEntries(probabilities.slice(0, k).map(([t, p]) => [model.detokenize([t], true), Math.log(p)])));
        this.token_ids.push(token);
        this.text += text;
        this.generated++;
        counts.generated++;
        return text;
    }

    json(ask) {
        const {index, text, finish_reason, stop_reason, logprobs, token_ids} = this;
        return {index, text, finish_reason, stop_reason, logprobs: ask.logprobs == null ? null : logprobs,
            ...(ask.return_token_ids ? {token_ids} : {})};
    }
}

// Draws until the end, a stop text, or the cap; null when the client has gone.
async function sample(prompt, ask, index, gone, say) {
    const sequence = await acquire();
    try {
        if (gone())
            return null;
        await sequence.clearHistory();
        const choice = new Choice(index), rand = random((ask.seed ?? (Math.random() * 2 ** 31) | 0) + index);
        let feed = prompt;
        while (choice.finish_reason === null) {
            const [probabilities] = await distributions(sequence, feed, feed.length - 1);
            if (gone())
                return null;
            const [token, p] = draw(probabilities, ask.temperature ?? 1, rand);
            const text = choice.add(token, p, probabilities, ask.logprobs ?? 0);
            const stop = [].concat(ask.stop ?? []).find((s) => choice.text.endsWith(s));
            if (token === model.tokens.eos || stop !== undefined)
                Object.assign(choice, {finish_reason: "stop", stop_reason: stop ?? null});
            else if (choice.generated >= (ask.max_tokens ?? 16) || prompt.length + choice.generated >= model.trainContextSize)
                choice.finish_reason = "length";
            if (stop !== undefined && !ask.include_stop_str_in_output)
                choice.text = choice.text.slice(0, -stop.length);
            say?.(choice, text);
            feed = [token];
        }
        return choice;
    } finally {
        release(sequence);
    }
}

// Log-probabilities of a given text: echo without generation.
async function score(prompt, index) {
    const sequence = await acquire();
    try {
        await sequence.clearHistory();
        const choice = new Choice(index), found = await distributions(sequence, prompt.slice(0, -1), 0);
        found.forEach((probabilities, i) => {
            const [token, p] = probabilities.find(([t]) => t === prompt[i + 1]);
            choice.add(token, p, probabilities, 0);
        });
        choice.generated = 0;
        choice.finish_reason = "length";
        return choice;
    } finally {
        release(sequence);
    }
}

// -- HTTP -------------------------------------------------------------------------------------------------------------

function tokens(prompt) {
    return [model.tokens.bos, ...(Array.isArray(prompt) ? prompt : model.tokenize(prompt))];
}

// Prompts as lists of tokens. "add_eos" (of this server alone) scores the end token too.
function prompts(ask) {
    const given = Array.isArray(ask.prompt) && typeof ask.prompt[0] !== "number" ? ask.prompt : [ask.prompt];
    return given.map((p) => ask.add_eos ? [...tokens(p), model.tokens.eos] : tokens(p));
}

function json(response, status, body) {
    response.writeHead(status, {"content-type": "application/json"});
    response.end(JSON.stringify(body));
}

// What this server cannot do is refused, not ignored.
function refusal(ask) {
    if (!(typeof ask.prompt === "string" || Array.isArray(ask.prompt)) || ask.prompt.length === 0)
        return "prompt is missing";
    for (const [key, neutral] of [["top_p", [1]], ["top_k", [0, -1]], ["min_p", [0]], ["repetition_penalty", [1]],
        ["presence_penalty", [0]], ["frequency_penalty", [0]], ["best_of", []]])
        if (ask[key] != null && !neutral.includes(ask[key]))
            return `${key} ${ask[key]} is not supported here`;
    if (prompts(ask).some((p) => p.length > model.trainContextSize))
        return `the prompt has more than ${model.trainContextSize} tokens`;
    return null;
}

async function completions(response, ask) {
    const why = refusal(ask);
    if (why !== null)
        return json(response, 400, {error: {message: why, type: "BadRequestError", code: 400}});
    const head = {id: ask.request_id ?? `cmpl-${Date.now()}`, object: "text_completion", created: Date.now() / 1000 | 0,
        model: NAME};
    let closed = false;
    response.on("close", () => closed = !response.writableFinished);
    if (ask.stream)
        response.writeHead(200, {"content-type": "text/event-stream"});
    const send = (body) => response.write(`data: ${JSON.stringify({...head, ...body})}\n\n`);
    const say = ask.stream ? (choice, text) => send({choices: [{...choice.json({}), text}]}) : undefined;
    const given = prompts(ask), n = ask.n ?? 1;
    const made = await Promise.all(given.flatMap((prompt, i) => Array.from({length: n}, (_, j) =>
        ask.echo && ask.max_tokens === 0 ? score(prompt, i * n + j) : sample(prompt, ask, i * n + j, () => closed, say))));
    if (closed) {
        counts.aborted++;
        return;
    }
    const read = given.reduce((sum, p) => sum + p.length, 0), generated = made.reduce((sum, c) => sum + c.generated, 0);
    const usage = {prompt_tokens: read, completion_tokens: generated, total_tokens: read + generated};
    counts.prompt += read;
    counts.finished++;
    if (!ask.stream)
        return json(response, 200, {...head, choices: made.map((c) => c.json(ask)), usage});
    if (ask.stream_options?.include_usage)
        send({choices: [], usage});
    response.end("data: [DONE]\n\n");
}

const metrics = () => Object.entries({num_requests_running: counts.running, num_requests_waiting: waiters.length,
    prompt_tokens_total: counts.prompt,
    generation_tokens_total: counts.generated}).map(([k, v]) => `vllm:${k}{model_name="${NAME}"} ${v}\n`).join("");

const GET = {
    "/health": (response) => json(response, 200, {}),
    "/version": (response) => json(response, 200, {version: "llama.cpp behind the API of vLLM"}),
    "/v1/models": (response) => json(response, 200,
        {object: "list", data: [{id: NAME, object: "model", owned_by: "vllm", max_model_len: model.trainContextSize}]}),
    "/metrics": (response) => response.end(metrics()),
    "/stats": (response) => json(response, 200, {...counts, waiting: waiters.length}),
};

const server = http.createServer((request, response) => {
    if (request.method === "GET" && GET[request.url])
        return GET[request.url](response);
    if (request.method !== "POST" || !["/v1/completions", "/tokenize"].includes(request.url))
        return json(response, 404, {error: {message: "not found", code: 404}});
    let body = "";
    request.on("data", (data) => body += data).on("end", async () => {
        try {
            const ask = JSON.parse(body);
            if (request.url === "/tokenize") {
                const found = tokens(ask.prompt);
                return json(response, 200, {count: found.length, max_model_len: model.trainContextSize, tokens: found});
            }
            await completions(response, ask);
        } catch (error) {
            if (!response.headersSent)
                json(response, error instanceof SyntaxError ? 400 : 500, {error: {message: `${error}`}});
            else
                response.destroy();
        }
    });
});
server.listen(0, "127.0.0.1", () => console.log(`port=${server.address().port}`));
