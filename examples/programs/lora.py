"""LoRA on a tiny BERT with random weights, by Transformers' Trainer and peft: only the adapter travels."""

import numpy as np
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForSequenceClassification

import umbel as fl
from umbel.frameworks import transformers


def texts(number):
    words = np.random.default_rng(number).integers(0, 16, (64, 8))
    return [{"input_ids": row.tolist(), "labels": int(row[0]) % 2} for row in words]


small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
bert = BertForSequenceClassification(BertConfig(vocab_size=16, **small))
model = get_peft_model(bert, LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]))
client = transformers.client(model, texts, args={"learning_rate": 2e-2})
history = fl.federate(client).simulate(clients=4, rounds=2)
