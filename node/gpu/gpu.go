package gpu

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

const (
	// devicesMax is how many devices of one host are counted with.
	devicesMax = 64
	// toolMax is how long nvidia-smi may take, and outputMax how much of what it
	// says is read.
	toolMax   = 5 * time.Second
	outputMax = 64 << 10

	procDir = "/proc/driver/nvidia/gpus"
	tool    = "nvidia-smi"
)

// Find is the GPUs of this machine, sorted by id.
func Find(ctx context.Context) []placement.Device {
	found := fromProc(procDir)
	if path, err := exec.LookPath(tool); err == nil && (len(found) > 0 || exists("/dev/nvidiactl")) {
		if told := fromTool(ctx, path); len(told) > 0 {
			found = told
		}
	}
	return found
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// fromProc reads what NVIDIA's driver says of each of its devices.
func fromProc(dir string) []placement.Device {
	files, err := filepath.Glob(filepath.Join(dir, "*", "information"))
	if err != nil {
		return nil
	}
	var out []placement.Device
	for _, file := range files[:min(len(files), devicesMax)] {
		data, err := os.ReadFile(file)
		if err != nil || len(data) > outputMax {
			continue
		}
		says := map[string]string{}
		for line := range strings.Lines(string(data)) {
			name, value, _ := strings.Cut(line, ":")
			says[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
		d := placement.Device{ID: says["GPU UUID"], Model: says["Model"]}
		if strings.Contains(d.ID, "?") { // as the driver says it until the device is first used
			d.ID = says["Device Minor"]
		}
		if isName(d.ID) && d.Model != "" {
			out = append(out, d)
		}
	}
	return sorted(out)
}

// fromTool asks nvidia-smi, which knows how much memory they have.
func fromTool(ctx context.Context, path string) []placement.Device {
	ctx, cancel := context.WithTimeout(ctx, toolMax)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--query-gpu=uuid,name,memory.total", "--format=csv,noheader,nounits")
	cmd.WaitDelay = time.Second
	var text bytes.Buffer
	cmd.Stdout = &limited{&text}
	if cmd.Run() != nil {
		return nil
	}
	var out []placement.Device
	for line := range strings.Lines(text.String()) {
		fields := strings.Split(strings.TrimSpace(line), ", ")
		if len(fields) != 3 || !isName(fields[0]) || len(out) == devicesMax {
			continue
		}
		d := placement.Device{ID: fields[0], Model: fields[1]}
		if mib, err := strconv.ParseInt(fields[2], 10, 32); err == nil && mib > 0 {
			d.Memory = placement.Bytes(mib << 20)
		}
		out = append(out, d)
	}
	return sorted(out)
}

// limited keeps the first of what a tool writes.
type limited struct{ *bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := outputMax - l.Len(); room > 0 {
		_, _ = l.Buffer.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}

// Named is devices that an operator names: so many of each model.
func Named(counts map[string]int) ([]placement.Device, error) {
	var out []placement.Device
	for _, model := range slices.Sorted(maps.Keys(counts)) {
		n := counts[model]
		if !isName(model) || n < 1 || len(out)+n > devicesMax {
			return nil, fmt.Errorf("%s=%d: a model of letters, digits, \"-\", \"_\" and \".\", and 1 to %d devices in all", model, n, devicesMax)
		}
		for i := range n {
			out = append(out, placement.Device{ID: model + "-" + strconv.Itoa(i), Model: model})
		}
	}
	return out, nil
}

// isName says whether a text can stand in a label and in a list with commas.
func isName(text string) bool {
	return text != "" && len(text) <= 100 && !strings.ContainsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r)
	})
}

func sorted(devices []placement.Device) []placement.Device {
	slices.SortFunc(devices, func(a, b placement.Device) int { return strings.Compare(a.ID, b.ID) })
	return devices
}
