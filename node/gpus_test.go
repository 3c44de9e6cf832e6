package node

import "testing"

func TestLabelOfAModel(t *testing.T) {
	for model, want := range map[string]string{
		"NVIDIA A100-SXM4-40GB": "nvidia-a100-sxm4-40gb", "t4": "t4", "???": "true", "é GPU": "gpu",
	} {
		if got := labelOf(model); got != want || !labelName.MatchString(got) {
			t.Errorf("%q is %q, and not %q", model, got, want)
		}
	}
}
