package failover

import (
	"reflect"
	"testing"
)

func TestSummarise(t *testing.T) {
	f := Figures{Kills: []Kill{
		{Detect: 3, Decide: 0.3, Place: 0.03, Start: 0.1, Total: 3.43},
		{Detect: 1, Decide: 0.1, Place: 0.01, Start: 0.3, Total: 1.41},
		{Detect: 2, Decide: 0.2, Place: 0.02, Start: 0.2, Total: 2.42},
	}}
	f.summarise()
	want := []Summary{{"detect", 2, 3}, {"decide", 0.2, 0.3}, {"place", 0.02, 0.03}, {"start", 0.2, 0.3}, {"total", 2.42, 3.43}}
	if !reflect.DeepEqual(f.Phases, want) {
		t.Errorf("%v, want %v", f.Phases, want)
	}
}
