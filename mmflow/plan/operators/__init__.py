"""Planning of operators: each module turns one kind of Substrait relation into pipelines, steps and exchanges."""
