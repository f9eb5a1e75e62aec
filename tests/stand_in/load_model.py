"""Runs with MLflow's own client: `<server> <name> <alias>` loads a version and prints the name of its first input."""

import sys

import mlflow
import mlflow.onnx


def main(server: str, name: str, alias: str) -> None:
    mlflow.set_tracking_uri(server)
    loaded = mlflow.onnx.load_model(f"models:/{name}@{alias}")
    sys.stdout.write(f"{loaded.graph.input[0].name}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
