package node

import (
	"context"
	"maps"
	"strings"

	"github.com/hansa-mesh/hansa/node/gpu"
)

// findGPUs notes the GPUs of this machine, or those that its operator names.
// They are looked for once: devices come and go with a restart.
func (n *Node) findGPUs(ctx context.Context) {
	if len(n.cfg.GPUs) > 0 {
		n.gpus, _ = gpu.Named(n.cfg.GPUs) // Validate has seen it
		return
	}
	n.gpus = gpu.Find(ctx)
}

// hostLabels are this peer's labels and, where there are GPUs and nobody labelled
// them, the model of the first.
func (n *Node) hostLabels() map[string]string {
	labels := n.labels()
	if _, given := labels["gpu"]; given || len(n.gpus) == 0 {
		return labels
	}
	labels = maps.Clone(labels)
	labels["gpu"] = labelOf(n.gpus[0].Model)
	return labels
}

// labelOf makes the value of a label of a model: "NVIDIA A100-SXM4-40GB" is
// "nvidia-a100-sxm4-40gb".
func labelOf(model string) string {
	value := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '_':
			return r
		}
		return '-'
	}, strings.ToLower(model))
	if value = strings.Trim(value[:min(len(value), 63)], "-._"); value == "" {
		return "true"
	}
	return value
}
