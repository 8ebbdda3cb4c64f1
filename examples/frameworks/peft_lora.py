"""peft: LoRA on the tiny BERT of transformers_bert.py. Only the adapter travels, and peft opens it afterwards."""

from peft import LoraConfig, get_peft_model

import umbel as fl
from transformers_bert import make_model, texts
from umbel.frameworks import transformers as umbel_transformers


def make_adapted():
    return get_peft_model(make_model(), LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]))


client = umbel_transformers.client(make_adapted, texts, args={"learning_rate": 2e-2, "per_device_train_batch_size": 16})

if __name__ == "__main__":
    fl.simulation.start_simulation(client_fn=client, num_clients=10, config=fl.server.ServerConfig(num_rounds=5))
