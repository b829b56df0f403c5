"""The verbs: where each is implemented and its line in `--help`. No verb's module is imported to list them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One verb, as `package module:attribute`."""

    place: str
    help: str
    section: str


SECTIONS = ("Run", "Objects", "Look", "Settings", "Roles")

VERBS: dict[str, Entry] = {
    "serve": Entry("serve:serve", "Run the appliance in the foreground.", "Run"),
    "chat": Entry("chat:chat", "Chat with a served model in the terminal.", "Run"),
    "stop": Entry("stop:stop", "Stop the running appliance in order.", "Run"),
    "apply": Entry("objects:apply", "Create or change objects from a manifest.", "Objects"),
    "get": Entry("objects:get", "List objects, or show one.", "Objects"),
    "describe": Entry("objects:describe", "Show an object with its state and recent decisions.", "Objects"),
    "delete": Entry("objects:delete", "Delete an object and what runs for it.", "Objects"),
    "scale": Entry("objects:scale", "Change the replicas of a component.", "Objects"),
    "restart": Entry("restart:restart", "Replace the processes of a component, one by one.", "Objects"),
    "status": Entry("status:status", "Show models, workers and front ends.", "Look"),
    "top": Entry("top:top", "Show the running appliance live.", "Look"),
    "logs": Entry("logs:logs", "Show the last lines of a component, also of dead ones.", "Look"),
    "why": Entry("why:why", "Show the recorded decisions about a worker, model or object.", "Look"),
    "doctor": Entry("doctor:doctor", "Check machine, state and running appliance, with cures.", "Look"),
    "models": Entry("models:models", "Fetch, list, check and remove models.", "Look"),
    "lora": Entry("lora:lora", "Load, list and unload LoRA adapters of running models.", "Look"),
    "backup": Entry("backup:backup", "Write a backup of the state to a file.", "Settings"),
    "restore": Entry("restore:restore", "Restore a backup into the state dir.", "Settings"),
    "engine": Entry("engine:engine", "Install, list and remove the engines vllm and sglang.", "Settings"),
    "keys": Entry("keys:keys", "Create, list and revoke API keys.", "Settings"),
    "config": Entry("config:config", "Show, check and explain the settings.", "Settings"),
    "completion": Entry("completion:completion", "Print the completion script of a shell.", "Settings"),
    "version": Entry("version:version", "Show version, commit and engines.", "Settings"),
    "worker": Entry("worker:worker", "One engine process, as serve starts it or by itself.", "Roles"),
    "frontend": Entry("frontend:frontend", "One public port, as serve starts it or by itself.", "Roles"),
    "router": Entry("router:router", "Choose workers for prompts that others send.", "Roles"),
    "indexer": Entry("indexer:indexer", "Tell who holds which KV blocks, for routers.", "Roles"),
}
"""In the order of `--help`."""
