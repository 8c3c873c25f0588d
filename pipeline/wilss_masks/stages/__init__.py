"""What happens to the evidence of an image's tags until it is masks: stages that every source of soft maps shares."""
