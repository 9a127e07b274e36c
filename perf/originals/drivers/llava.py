"""Repositories that descend from LLaVA: HuatuoGPT-Vision, LLaVA-Med, LLaVA-1.5, MedTrinity-25M (LLaVA-Tri), VILA-M3."""

import torch
from PIL import Image

from drivers.surroundings import last, stand_in

TOKENS = 32


class Sentinel:
    """A repository that puts -200 in the place of the image."""

    def __init__(self, model):
        self.model = model

    def forward(self, prompt, image):
        ids = torch.tensor([self.ids(prompt)])
        out = self.model(ids, images=self.pixels(image), output_attentions=True, use_cache=False)
        tokens = out.attentions[0].shape[-1] - ids.shape[1] + 1
        return last(out, ids[0].tolist().index(-200), tokens)


def huatuo(folder, cases, checkout):
    import cli

    class Bot(Sentinel):
        def __init__(self):
            self.bot = cli.HuatuoChatbot(str(folder), "cpu")
            self.bot.gen_kwargs |= {"do_sample": False, "max_new_tokens": TOKENS, "repetition_penalty": 1.0}
            self.bot.gen_kwargs.pop("temperature")
            super().__init__(self.bot.model)

        def ids(self, prompt):
            text = self.bot.insert_image_placeholder(self.bot.input_moderation(prompt), 1)
            return self.bot.preprocess(self.bot.get_conv_without_history(text), return_tensors="pt").tolist()

        def pixels(self, image):
            return torch.stack(self.bot.get_image_tensors([str(image)]))

        def answer(self, prompt, image):
            return self.bot.inference(prompt, [str(image)])[0]

    return Bot()


def med(folder, cases, checkout):
    from llava.constants import DEFAULT_IMAGE_TOKEN
    from llava.conversation import conv_templates
    from llava.mm_utils import process_images, tokenizer_image_token
    from llava.model import LlavaMistralForCausalLM
    from llava.model.builder import load_pretrained_model

    read = LlavaMistralForCausalLM.from_pretrained

    def whole(*args, device_map=None, **settings):  # the loader's own two settings exclude each other on a CPU
        return read(*args, **settings)

    LlavaMistralForCausalLM.from_pretrained = whole
    tokenizer, model, processor, _ = load_pretrained_model(str(folder), None, "llava-med-mistral", device="cpu")

    class Med(Sentinel):
        def ids(self, prompt):
            text = DEFAULT_IMAGE_TOKEN + "\n" + prompt.replace(DEFAULT_IMAGE_TOKEN, "").strip()  # model_vqa.py
            conversation = conv_templates["mistral_instruct"].copy()
            conversation.append_message(conversation.roles[0], text)
            conversation.append_message(conversation.roles[1], None)
            return tokenizer_image_token(conversation.get_prompt(), tokenizer)

        def pixels(self, image):
            opened = Image.open(image)
            if opened.mode == "L":
                opened = opened.convert("RGB")  # left grey, it is padded with another grey: docs/models.md
            return process_images([opened], processor, model.config)

        def answer(self, prompt, image):
            ids = torch.tensor([self.ids(prompt)])
            out = model.generate(ids, images=self.pixels(image), do_sample=False, max_new_tokens=TOKENS, use_cache=True)
            return tokenizer.batch_decode(out, skip_special_tokens=True)[0].strip()

    return Med(model)


def llava(folder, cases, checkout):
    """haotian-liu/LLaVA (vicuna_v1) and MedTrinity-25M (llama3), whose loaders and tokenisation are alike."""
    from llava.constants import DEFAULT_IMAGE_TOKEN
    from llava.conversation import conv_templates
    from llava.mm_utils import process_images, tokenizer_image_token
    from llava.model.builder import load_pretrained_model

    tokenizer, model, processor, _ = load_pretrained_model(str(folder), None, "llava-llama", device_map="cpu")
    model = model.float()
    model.config.attn_implementation = model.config._attn_implementation = "eager"

    class Llava(Sentinel):
        def ids(self, prompt):
            conversation = conv_templates[cases["conversation"]].copy()
            conversation.append_message(conversation.roles[0], DEFAULT_IMAGE_TOKEN + "\n" + prompt)
            conversation.append_message(conversation.roles[1], None)
            return tokenizer_image_token(conversation.get_prompt(), tokenizer)

        def pixels(self, image):
            return process_images([Image.open(image).convert("RGB")], processor, model.config)

        def answer(self, prompt, image):
            ids = torch.tensor([self.ids(prompt)])
            ends = {"eos_token_id": cases["ends"]} if cases.get("ends") else {}
            out = model.generate(
                ids, images=self.pixels(image), do_sample=False, max_new_tokens=TOKENS, use_cache=True, **ends
            )
            return tokenizer.batch_decode(out, skip_special_tokens=True)[0].strip()

    return Llava(model)


def vila(folder, cases, checkout):
    stand_in("flash_attn")  # imported for another tower
    from llava.constants import IMAGE_TOKEN_INDEX
    from llava.conversation import SeparatorStyle, conv_templates
    from llava.mm_utils import KeywordsStoppingCriteria, process_images, tokenizer_image_token
    from llava.model import builder

    prepare = builder.prepare_config_for_eval

    def on_cpu(config, settings):  # it puts SigLIP on a card, whatever is asked for
        prepare(config, settings)
        settings["device_map"] = {"": "cpu"}

    builder.prepare_config_for_eval = on_cpu
    tokenizer, model, processor, _ = builder.load_pretrained_model(str(folder), "vila-llama", None, device="cpu")
    model = model.float()

    class M3(Sentinel):
        def forward(self, prompt, image):
            """As its `generate` takes a prompt apart; its own forward is for training."""
            ids = torch.tensor([self.ids(prompt)])
            given = model.prepare_inputs_labels_for_multimodal(ids, None, None, None, None, [self.pixels(image)])
            embeds = given[4]
            out = model.llm(inputs_embeds=embeds, output_attentions=True, use_cache=False)
            return last(out, ids[0].tolist().index(-200), embeds.shape[1] - ids.shape[1] + 1)

        def ids(self, prompt):
            conversation = conv_templates[cases["conversation"]].copy()
            conversation.append_message(conversation.roles[0], "<image>\n" + prompt)
            conversation.append_message(
                conversation.roles[1], "" if conversation.sep_style == SeparatorStyle.LLAMA_3 else None
            )
            self.conversation = conversation
            return tokenizer_image_token(conversation.get_prompt(), tokenizer, IMAGE_TOKEN_INDEX)

        def pixels(self, image):
            return process_images([Image.open(image).convert("RGB")], processor, model.config)

        def answer(self, prompt, image):
            ids = torch.tensor([self.ids(prompt)])
            chat = self.conversation
            stop = chat.sep2 if chat.sep_style == SeparatorStyle.TWO else chat.sep
            out = model.generate(
                ids, images=[self.pixels(image)], do_sample=False, max_new_tokens=TOKENS, use_cache=True,
                stopping_criteria=[KeywordsStoppingCriteria([stop], tokenizer, ids)],
                pad_token_id=tokenizer.eos_token_id, min_new_tokens=2,
            )  # fmt: skip
            text = tokenizer.batch_decode(out, skip_special_tokens=True)[0].strip()
            return text.removesuffix(stop).strip()

    return M3(model)
