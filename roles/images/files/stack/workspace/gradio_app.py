"""A sample Gradio app: what this node computes with. Replace it with your own (GPUSTEAD_GRADIO_APP)."""

import socket

import gradio
import torch


def describe() -> str:
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"{socket.gethostname()}: PyTorch {torch.__version__} on {', '.join(devices) or 'the CPU'}"


with gradio.Blocks(title="gpustead") as app:
    gradio.Markdown("# gpustead\nThis is the sample app.")
    shown = gradio.Textbox(label="This node")
    gradio.Button("Look").click(describe, outputs=shown)

app.queue()
# Gradio looks for work 1,000 times a second, which costs an idle demo 6 % of a core; by this, 20 times.
app._queue.sleep_when_free = 0.05
app.launch(share=False)
