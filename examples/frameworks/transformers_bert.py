"""Transformers: a tiny BERT with random weights learns which texts have an even first word. Nothing is downloaded."""

import numpy as np
from transformers import BertConfig, BertForSequenceClassification

import umbel as fl
from umbel.frameworks import transformers as umbel_transformers


def make_model():
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return BertForSequenceClassification(BertConfig(vocab_size=16, **small))


def texts(number):
    words = np.random.default_rng(number).integers(0, 16, (64, 8))
    return [{"input_ids": row.tolist(), "labels": int(row[0]) % 2} for row in words]


client = umbel_transformers.client(make_model, texts, args={"learning_rate": 5e-3, "per_device_train_batch_size": 16})

if __name__ == "__main__":
    fl.simulation.start_simulation(client_fn=client, num_clients=10, config=fl.server.ServerConfig(num_rounds=5))
