"""kernel_client.py URL TOKEN CODE: starts a Jupyter kernel over the API, runs the code and prints its output.

The tests feed it to a container of the workspace, which has tornado.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid

from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect


async def main(base: str, token: str, code: str) -> None:
    headers = {"Authorization": f"token {token}"}
    client = AsyncHTTPClient()
    made = await client.fetch(f"{base}/api/kernels", method="POST", headers=headers, body="{}")
    kernel = f"{base}/api/kernels/{json.loads(made.body)['id']}"
    channels = await websocket_connect(HTTPRequest(f"{kernel.replace('http', 'ws', 1)}/channels", headers=headers))
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "username": "",
        "session": uuid.uuid4().hex,
        "version": "5.3",
        "date": "",
    }
    content = {
        "code": code,
        "silent": False,
        "store_history": False,
        "user_expressions": {},
        "allow_stdin": False,
    }
    request = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    await channels.write_message(json.dumps({**request, "buffers": []}))
    while True:
        message = json.loads(await asyncio.wait_for(channels.read_message(), 60))
        if message["parent_header"].get("msg_id") != header["msg_id"]:
            continue
        if message["msg_type"] == "stream":
            print(message["content"]["text"], end="")
        if message["msg_type"] == "error":
            sys.exit("\n".join(message["content"]["traceback"]))
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            break
    await client.fetch(kernel, method="DELETE", headers=headers)


asyncio.run(main(*sys.argv[1:]))
