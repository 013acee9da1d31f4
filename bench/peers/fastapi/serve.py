"""What most people write first: FastAPI on uvicorn, with uvloop and httptools, no access log.

The handler is a coroutine, which spares it the hop to a thread; the body is taken as JSON without
a model of its types, which spares it pydantic.
"""

import asked
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

predict = asked.load()
app = FastAPI()


@app.post("/predict")
async def answer(request: Request):
    return JSONResponse({"prediction": predict((await request.json())["data"])})


if __name__ == "__main__":
    uvicorn.run(
        "serve:app",
        host="127.0.0.1",
        port=asked.PORT,
        workers=asked.WORKERS,
        access_log=False,
        log_level="warning",
        timeout_worker_healthcheck=60,  # or it kills workers that import for longer than 5 s
    )
