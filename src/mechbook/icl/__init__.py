"""The room of the chapter on in-context learning against weight decay: classes, texts of pictures, models, runs."""
