package gpu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/placement"
)

const information = `Model: 		 NVIDIA A100-SXM4-40GB
IRQ:   		 142
GPU UUID: 	 GPU-5e1b0b2c-6d0f-11ee-8c99-0242ac120002
Video BIOS: 	 92.00.45.00.03
Bus Type: 	 PCIe
Device Minor: 	 %
GPU Excluded:	 No
`

func TestFromProc(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"0000:07:00.0": information,
		"0000:0a:00.0": strings.ReplaceAll(strings.ReplaceAll(information, "%", "3"), "GPU-5e1b0b2c-6d0f-11ee-8c99-0242ac120002", "GPU-????????-????-????-????-????????????"),
		"0000:0b:00.0": "Model: none\nGPU UUID: a,b\n", // a name that would break a list
		"0000:0c:00.0": "",
	} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "information"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found := fromProc(dir)
	if len(found) != 2 || found[0] != (placement.Device{ID: "3", Model: "NVIDIA A100-SXM4-40GB"}) || found[1].ID != "GPU-5e1b0b2c-6d0f-11ee-8c99-0242ac120002" {
		t.Errorf("found %+v", found)
	}
	if found := fromProc(filepath.Join(dir, "nothing")); len(found) != 0 {
		t.Errorf("found %+v where nothing is", found)
	}
}

func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), tool)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFromTool(t *testing.T) {
	found := fromTool(t.Context(), script(t, `
[ "$1" = --query-gpu=uuid,name,memory.total ] || exit 1
echo 'GPU-2, NVIDIA T4, 15360'
echo 'a strange line'
echo 'GPU-1, NVIDIA A100-SXM4-40GB, 40960'
`))
	if len(found) != 2 || found[0] != (placement.Device{ID: "GPU-1", Model: "NVIDIA A100-SXM4-40GB", Memory: 40 << 30}) || found[1].Memory != 15<<30 {
		t.Errorf("found %+v", found)
	}
	if found := fromTool(t.Context(), script(t, "echo 'GPU-1, A, 1'; exit 9")); len(found) != 0 {
		t.Errorf("a tool that failed found %+v", found)
	}
	if found := fromTool(t.Context(), script(t, "yes 'GPU-1, A, 1' | head -c 1000000")); len(found) != devicesMax {
		t.Errorf("a tool that says too much found %d", len(found))
	}
}

func TestNamed(t *testing.T) {
	found, err := Named(map[string]int{"t4": 1, "a100": 2})
	if err != nil || len(found) != 3 || found[0].ID != "a100-0" || found[2] != (placement.Device{ID: "t4-0", Model: "t4"}) {
		t.Errorf("%+v, %v", found, err)
	}
	for _, bad := range []map[string]int{{"a": 0}, {"a": 65}, {"a,b": 1}, {"": 1}} {
		if _, err := Named(bad); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}
