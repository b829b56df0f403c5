"""What the embedded engine of this build can compute on."""


def gpu_backends() -> list[str]:
    """Names of the GPUs that its library can use; empty for a build for the CPU, and where it finds no driver."""
    import xllamacpp

    kinds = xllamacpp.ggml_backend_dev_type
    gpus = (kinds.GGML_BACKEND_DEVICE_TYPE_GPU, kinds.GGML_BACKEND_DEVICE_TYPE_IGPU)
    return [str(device["name"]) for device in xllamacpp.get_device_info() if device["type"] in gpus]
