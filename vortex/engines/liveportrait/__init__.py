"""The neural engine: so far its networks and the keypoint equation; nothing here renders video yet."""
