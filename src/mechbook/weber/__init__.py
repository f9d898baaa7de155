"""The room of the chapter on Weber's law: trials, observers, psychometric functions, networks that compare."""
