"""Drives a real llama.cpp server through `reenact record` with the OpenAI Python SDK: the maker of the sample trace.

    python traces/record_sample.py http://127.0.0.1:PORT/v1

Fixed prompts, temperature 0, seeds: streamed and unary chat, completions, a tool call, a conversation of five turns, two
at once, a client that leaves in the middle of an answer, a request that is too long (400), the list of models.
"""

import json
import sys
import threading
import time

import openai

MODEL = "smollm2-135m-instruct"
SAMPLING = {"model": MODEL, "temperature": 0, "seed": 7}
WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Get the weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}

def asked_before(city, number):
    """A call and its answer, as earlier turns: so small a model follows examples better than a description."""
    call = {"name": "get_weather", "arguments": json.dumps({"city": city})}
    return [user(f"What is the weather in {city}?"),
            {"role": "assistant", "content": None,
             "tool_calls": [{"id": f"call_{number}", "type": "function", "function": call}]},
            {"role": "tool", "tool_call_id": f"call_{number}", "content": json.dumps({"sky": "clear", "celsius": 12})}]


client = openai.OpenAI(base_url=sys.argv[1], api_key="sk-sample-key", max_retries=0)
chat = client.chat.completions


def user(text):
    return {"role": "user", "content": text}


def streamed(messages, **more):
    """Reads a streamed answer to its end and returns its text."""
    text = ""
    for event in chat.create(messages=messages, stream=True, stream_options={"include_usage": True}, **SAMPLING, **more):
        if event.choices:
            text += event.choices[0].delta.content or ""
    return text


def leave_after(events, messages):
    """A client that closes the connection after some events."""
    stream = chat.create(messages=messages, stream=True, max_tokens=200, **SAMPLING)
    for seen, _ in enumerate(stream, 1):
        if seen == events:
            stream.close()
            return


def converse(questions):
    """A conversation: each turn carries all earlier ones."""
    messages = [{"role": "system", "content": "You are a helpful guide to the planets. Answer in one or two sentences."}]
    for question in questions:
        messages.append(user(question))
        messages.append({"role": "assistant", "content": streamed(messages, max_tokens=48)})
        time.sleep(0.3)


client.models.list()
print(streamed([user("What is the capital of France?")], max_tokens=32))
print(chat.create(messages=[user("Name three colors.")], max_tokens=32, **SAMPLING).choices[0].message.content)
print(client.completions.create(prompt="Once upon a time", max_tokens=24, **SAMPLING).choices[0].text)
print("".join(event.choices[0].text for event in client.completions.create(
    prompt="The sea is", max_tokens=24, stream=True, **SAMPLING) if event.choices))
earlier = asked_before("Rome", 1) + asked_before("Lima", 2)
streamed(earlier + [user("What is the weather in Paris?")], max_tokens=64, tools=[WEATHER])
print(chat.create(messages=earlier + [user("What is the weather in Oslo?")], max_tokens=64, tools=[WEATHER],
                  **SAMPLING).choices[0].message.tool_calls)
converse(["Which planet is the largest?", "And the smallest?", "Which has rings?", "How far is Mars from the Sun?",
          "Could people live there?"])
pair = [threading.Thread(target=streamed, args=([user(text)],), kwargs={"max_tokens": 48})
        for text in ("Tell me about rivers.", "Tell me about mountains.")]
for thread in pair:
    thread.start()
for thread in pair:
    thread.join()
leave_after(12, [user("Write a long story about a lighthouse keeper.")])
time.sleep(0.5)
try:
    chat.create(messages=[user("word " * 4000)], max_tokens=8, **SAMPLING)
except openai.BadRequestError as error:
    print(error.status_code, error.body["type"])
