package scale

import (
	"errors"
	"math"
)

// Model says how one cost of a peer grows: with each peer, each app, and each change a
// second in the whole mesh.
type Model struct {
	Base   float64 `json:"base"`
	Peer   float64 `json:"for_each_peer"`
	App    float64 `json:"for_each_app"`
	Change float64 `json:"for_each_change_per_second"`
}

const modelTerms = 4

func terms(c Cost) [modelTerms]float64 {
	return [modelTerms]float64{1, float64(c.Peers), float64(c.Apps), c.Changes}
}

// At is what the model says of a mesh.
func (m Model) At(c Cost) (sum float64) {
	for i, f := range [modelTerms]float64{m.Base, m.Peer, m.App, m.Change} {
		sum += f * terms(c)[i]
	}
	return sum
}

var errFit = errors.New("no model follows from these meshes: measure two sizes at least, with and without apps and changes")

// Fit finds the model whose relative errors are least, by their squares.
func Fit(costs []Cost, of func(Cost) float64) (Model, error) {
	var a [modelTerms][modelTerms + 1]float64 // the normal equations
	for _, c := range costs {
		v := of(c)
		if !(v > 0) {
			continue // nothing can be relative to it
		}
		x := terms(c)
		for i := range modelTerms {
			for k := range modelTerms {
				a[i][k] += x[i] * x[k] / (v * v)
			}
			a[i][modelTerms] += x[i] / v
		}
	}
	for i := range modelTerms {
		pivot := i
		for k := i + 1; k < modelTerms; k++ {
			if math.Abs(a[k][i]) > math.Abs(a[pivot][i]) {
				pivot = k
			}
		}
		a[i], a[pivot] = a[pivot], a[i]
		if math.Abs(a[i][i]) < 1e-12*math.Abs(a[i][modelTerms])+1e-300 {
			return Model{}, errFit
		}
		for k := range modelTerms {
			if k == i {
				continue
			}
			by := a[k][i] / a[i][i]
			for j := i; j <= modelTerms; j++ {
				a[k][j] -= by * a[i][j]
			}
		}
	}
	x := func(i int) float64 { return a[i][modelTerms] / a[i][i] }
	m := Model{Base: x(0), Peer: x(1), App: x(2), Change: x(3)}
	if math.IsNaN(m.Base + m.Peer + m.App + m.Change) {
		return Model{}, errFit
	}
	return m, nil
}
