"""Two policies side by side: which is better, and was the learned reward hacked?"""
