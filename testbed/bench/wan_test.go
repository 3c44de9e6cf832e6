package bench

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// crooked is places on a map between which round trips differ from what the map says,
// each by a factor of its own: what no coordinates can tell.
func crooked(n int, seed uint64) Matrix {
	rng := rand.New(rand.NewPCG(seed, 1))
	var x, y []float64
	m := make(Matrix, n)
	for i := range m {
		x, y, m[i] = append(x, rng.Float64()*200), append(y, rng.Float64()*200), make([]float64, n)
		for j := range i {
			m[i][j] = (math.Hypot(x[i]-x[j], y[i]-y[j]) + 2) * math.Exp(0.6*rng.NormFloat64())
			m[j][i] = m[i][j]
		}
	}
	return m
}

// Of few candidates that are measured one is mostly far nearer than the one that
// seems nearest; and a peer that has probed all others before has the nearest.
func TestWANMeasuringHelps(t *testing.T) {
	for seed := range uint64(3) {
		res, err := WAN(context.Background(), WANConfig{Matrix: crooked(60, seed), Probes: 100, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]WANChoice{}
		for _, c := range res.Choices {
			got[c.Rule] = c
		}
		random, by, measured, told := got[WANRandom], got[WANCoordinates], got[WANMeasured], got[WANTold]
		if by.Mean > random.Mean/2 {
			t.Errorf("seed %d: coordinates tell nothing: %+v, at random %+v", seed, by, random)
		}
		if by.Median == 0 || measured.Median > by.Median/2 || measured.Mean > by.Mean/2 {
			t.Errorf("seed %d: measured %+v, by coordinates %+v", seed, measured, by)
		}
		if told.Nearest < 90 || told.Requests != 1 || measured.Requests != 9 || by.Requests != 0 {
			t.Errorf("seed %d: %+v, %+v, %+v", seed, told, measured, by)
		}
		if res.Peers != 60 || res.ErrorMedian <= 0 || res.ErrorP90 < res.ErrorMedian {
			t.Errorf("seed %d: %+v", seed, res)
		}
	}
}

// On recorded round trips measuring halves at least what coordinates miss by.
func TestWANOnRecordings(t *testing.T) {
	dir := os.Getenv("HANSA_DATA")
	if dir == "" || testing.Short() {
		t.Skip("HANSA_DATA names no folder of recordings, or -short")
	}
	for _, name := range []string{"wonder242_avg_ms.csv", "planetlab490_rtt_ms_t01.tsv"} {
		m, err := ReadMatrix(filepath.Join(dir, "wan", name))
		if err != nil {
			t.Fatal(err)
		}
		res, err := WAN(context.Background(), WANConfig{Matrix: m, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		by, measured, told := res.Choices[1], res.Choices[2], res.Choices[3]
		t.Logf("%s: %+v", name, res)
		if measured.Median > by.Median/2 || told.Median > by.Median/2 {
			t.Errorf("%s: by coordinates %+v, measured %+v, told %+v", name, by, measured, told)
		}
	}
}

func TestReadMatrix(t *testing.T) {
	read := func(name, text string) (Matrix, error) {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return ReadMatrix(path)
	}
	want := "[[0 2 3] [2 0 5] [3 5 0]]"
	for name, text := range map[string]string{
		"named.csv": "city,A,B,C\nA,0,1,\nB,3,,5\nC,3,5,0\n", // B is 1 and 3 from A, A to C was not recorded
		"bare.tsv":  "0\t1\t3\n3\t0\t5\n3\t5\t0\n",
	} {
		if m, err := read(name, text); err != nil || fmt.Sprint(m) != want {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
	for name, text := range map[string]string{
		"empty.csv": "", "small.csv": "0,1\n1,0\n", "word.csv": "c,A,B,C\nA,0,x,1\nB,1,0,1\nC,1,1,0\n",
		"wide.csv": "0,1,1,1\n1,0,1,1\n1,1,0,1\n", "below.csv": "0,-1,1\n1,0,1\n1,1,0\n", "endless.csv": "0,+Inf,1\n1,0,1\n1,1,0\n",
	} {
		if m, err := read(name, text); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
}
