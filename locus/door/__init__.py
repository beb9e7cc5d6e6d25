"""What a user of the library holds: a model, a behaviour, a claim, a run; each verb takes and gives these."""
