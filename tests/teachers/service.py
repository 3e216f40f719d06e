"""A teacher's service on loopback, Gemini's and OpenAI's shape, that fails as it is told and counts what it is asked.

`Service()` runs in a thread of its own. `script(key, model, query, n)` gives the reply to the n-th request for that query: a
(status, body) with a dict or a text as body, or one of DROP, HANG, CUT (half the JSON), SHORT (half the length that it stated) and TRICKLE
(a byte at a time, without end).
"""

import asyncio
import json
import threading
import time
from collections import Counter, defaultdict

from aiohttp import web

DROP, HANG, CUT, SHORT, TRICKLE = "drop", "hang", "cut", "short", "trickle"


def answered(*parts, finish="STOP", version="gemini-that-answered", **more):
    return 200, {
        "candidates": [
            {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish, "index": 0, **more}
        ],
        "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7},
        "modelVersion": version,
    }


def calling(name, **args):
    return {"functionCall": {"name": name, "args": args}}


TEXT = answered({"text": "No tool is needed."})
CALL = answered(calling("weather", location="Oslo"))


def error(code, status, message, *details):
    return code, {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def violation(quota_id, value=None):
    return {
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
        "quotaId": quota_id,
        "quotaDimensions": {"location": "global", "model": "m"},
        **({"quotaValue": str(value)} if value is not None else {}),
    }


def spent(
    *violations, delay=None, message="You exceeded your current quota, please check your plan and billing details."
):
    details = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": list(violations)}]
    if delay is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
    return error(429, "RESOURCE_EXHAUSTED", message, *details)


DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
BARE = error(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).")
NO_QUOTA = spent(
    violation(DAY), violation(MINUTE), delay="22s",
    message="You exceeded your current quota.\n* Quota exceeded for metric: x/free_tier_requests, limit: 0, model: m\nPlease retry in 22.1s.",
)  # fmt: skip
OVERLOADED = error(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")
INTERNAL = error(
    500, "INTERNAL", "An internal error has occurred. Please retry or report in https://developers.generativeai.google"
)
HTML = (502, "<html><body>Bad Gateway</body></html>")


def invalid(key):
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
    }
    return error(400, "INVALID_ARGUMENT", f"API key not valid: {key}. Please pass a valid API key.", info)


def leaked(key):
    return error(403, "PERMISSION_DENIED", "Your API key was reported as leaked. Please use another API key.")


def suspended(key):
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "CONSUMER_SUSPENDED",
        "metadata": {"containerInfo": f"api_key:{key}"},
    }
    return error(403, "PERMISSION_DENIED", f"Permission denied: Consumer 'api_key:{key}' has been suspended.", info)


DENIED = error(403, "PERMISSION_DENIED", "Your project has been denied access. Please contact support.")
LOCATION = error(400, "FAILED_PRECONDITION", "User location is not supported for the API use.")
OPAQUE = error(400, "INVALID_ARGUMENT", "Request contains an invalid argument.")
NOT_FOUND = error(
    404, "NOT_FOUND", "models/m is not found for API version v1beta, or is not supported for generateContent."
)


class Service:
    def __init__(self, script=None, delay=0.0):
        self.script = script or (lambda key, model, query, n: TEXT)
        self.delay = delay
        self.requests = []  # (time, key, model, query)
        self.bodies, self.headers = [], []
        self.given = Counter()  # successful answers by query
        self.refused = defaultdict(list)  # times of refusals by key
        self.jobs, self.submitted, self.after_submit = {}, [], None
        self.ends = {}  # by the number of a job: the state that it ends in, without answers
        self.lists, self.list_failures, self.list_failure = 0, 0, OVERLOADED
        self.running = self.most = 0
        self._seen = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        ready = threading.Event()
        self._ready = ready
        self._thread.start()
        ready.wait()

    def _serve(self):
        asyncio.set_event_loop(self._loop)
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1beta/models/{model}:generateContent", self._gemini)
        app.router.add_post("/v1beta/models/{model}:batchGenerateContent", self._submit)
        app.router.add_get("/v1beta/batches", self._list)
        app.router.add_get("/v1beta/batches/{name}", self._job)
        app.router.add_post("/v1/chat/completions", self._openai)

        async def start():
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.port = runner.addresses[0][1]
            self._runner = runner

        self._loop.run_until_complete(start())
        # Not before the loop runs for ever: a stop that came sooner would end `start` alone, and `close` would wait for ever.
        self._loop.call_soon(self._ready.set)
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()

    def close(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def count(self, key=None, query=None):
        return sum(1 for _, k, _, q in self.requests if key in (None, k) and query in (None, q))

    async def _gemini(self, request):
        body = await request.json()
        return await self._reply(
            request,
            request.headers["x-goog-api-key"],
            request.match_info["model"],
            body["contents"][0]["parts"][0]["text"],
            body,
        )

    async def _openai(self, request):
        body = await request.json()
        key = request.headers["authorization"].removeprefix("Bearer ")
        return await self._reply(request, key, body["model"], body["messages"][-1]["content"], body)

    async def _reply(self, request, key, model, query, body):
        self.requests.append((time.monotonic(), key, model, query))
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self._seen[query] += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            reply = self.script(key, model, query, self._seen[query])
            if self.delay:
                await asyncio.sleep(self.delay)
            if reply == DROP:
                request.transport.abort()
                return web.Response()
            if reply == HANG:
                await asyncio.sleep(3600)
            if reply in (SHORT, TRICKLE):
                return await self._partly(request, reply)
            if reply == CUT:
                return web.Response(text=json.dumps(TEXT[1])[:-20], content_type="application/json")
            status, content, *headers = reply
            if status == 200:
                self.given[query] += 1
            elif status in (400, 401, 403):
                self.refused[key].append(time.monotonic())
            if isinstance(content, str):
                return web.Response(
                    status=status, text=content, content_type="text/html", headers=headers[0] if headers else None
                )
            return web.json_response(content, status=status, headers=headers[0] if headers else None)
        finally:
            self.running -= 1

    async def _partly(self, request, reply):
        response = web.StreamResponse(headers={"content-type": "application/json", "content-length": "1000000"})
        await response.prepare(request)
        await response.write(b'{"candidates": [')
        while reply == TRICKLE and request.transport and not request.transport.is_closing():
            await response.write(b" ")
            await asyncio.sleep(0.2)
        if request.transport:
            request.transport.abort()
        return response

    async def _submit(self, request):
        body = await request.json()
        key, batch = request.headers["x-goog-api-key"], body["batch"]
        name = f"batches/job{len(self.submitted) + 1}"
        rows = batch["inputConfig"]["requests"]["requests"]
        self.submitted.append(
            (key, request.match_info["model"], [row["request"]["contents"][0]["parts"][0]["text"] for row in rows])
        )
        self.bodies.append(body)
        self.jobs[name] = {
            "label": batch["displayName"],
            "rows": rows,
            "polls": 0,
            "end": self.ends.get(len(self.submitted)),
            "model": request.match_info["model"],
            "key": key,
        }
        reply = self.after_submit(len(self.submitted)) if self.after_submit else None
        if reply == DROP:
            request.transport.abort()
            return web.Response()
        if reply == HANG:
            await asyncio.sleep(3600)
        if reply:
            del self.jobs[name]
            return web.json_response(reply[1], status=reply[0])
        return web.json_response(self._state(name))

    async def _list(self, request):
        self.lists += 1
        if self.lists <= self.list_failures:
            return web.json_response(self.list_failure[1], status=self.list_failure[0])
        return web.json_response({"operations": [self._state(name) for name in self.jobs]})

    async def _job(self, request):
        name = f"batches/{request.match_info['name']}"
        if name not in self.jobs:
            return web.json_response(error(404, "NOT_FOUND", "Requested entity was not found.")[1], status=404)
        self.jobs[name]["polls"] += 1
        return web.json_response(self._state(name))

    def _state(self, name):
        job = self.jobs[name]
        done = job["polls"] >= 2
        state = {
            "displayName": job["label"],
            "state": f"BATCH_STATE_{(job['end'] or 'SUCCEEDED') if done else 'RUNNING'}",
            "model": job["model"],
        }
        if done and job["end"]:
            return {"name": name, "metadata": state, "done": True, "error": {"code": 13, "message": "it ended early"}}
        if done:
            replies = []
            for row in job["rows"]:
                query = row["request"]["contents"][0]["parts"][0]["text"]
                self._seen[query] += 1
                status, content = self.script(job["key"], job["model"], query, self._seen[query])
                found = (
                    {"response": content}
                    if status == 200
                    else {"error": {"code": 14, "message": content["error"]["message"]}}
                )
                replies.append({**found, "metadata": row["metadata"]})
            job["polls"] = -(10**9)
            job["replies"] = replies
        if job.get("replies"):
            state["state"] = "BATCH_STATE_SUCCEEDED"
            state["output"] = {"inlinedResponses": {"inlinedResponses": job["replies"]}}
        return {"name": name, "metadata": state, "done": bool(job.get("replies"))}
