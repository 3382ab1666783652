"""What the household's other machines are told of a device, over MQTT. Refuses to know of updates and of pictures."""
