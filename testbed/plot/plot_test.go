package plot

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
)

// elements counts those of a drawing, which must be whole and of finite numbers.
func elements(t *testing.T, name string, drawing []byte) map[string]int {
	t.Helper()
	count := map[string]int{}
	d := xml.NewDecoder(bytes.NewReader(drawing))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return count
		}
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, drawing)
		}
		if e, ok := token.(xml.StartElement); ok {
			count[e.Name.Local]++
			for _, a := range e.Attr {
				if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
					t.Errorf("%s: %s of %s is %s", name, a.Name.Local, e.Name.Local, a.Value)
				}
			}
		}
	}
}

func TestCharts(t *testing.T) {
	c := Chart{Title: `a < b & "c"`, Unit: "ms", Axis: "peers", Series: []string{"median", "p90"}, Points: []Point{
		{Name: "one", X: 1, Values: []float64{10, 123.45}}, {Name: "<two>", X: 20, Values: []float64{0, math.NaN()}}, {Name: "three", X: 30, Values: []float64{-4, 0.05}},
	}}
	var bars, again, lines bytes.Buffer
	for _, err := range []error{Bars(&bars, c), Bars(&again, c), Lines(&lines, c)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(bars.Bytes(), again.Bytes()) {
		t.Error("the same chart is drawn in two ways")
	}
	if n := elements(t, "bars", bars.Bytes()); n["rect"] != 1+2+5 { // the page, the legend, the bars
		t.Errorf("bars: %v", n)
	}
	if n := elements(t, "lines", lines.Bytes()); n["polyline"] != 2 || n["circle"] != 5 {
		t.Errorf("lines: %v", n)
	}
	for _, text := range []string{">123<", ">10<", ">0.05<", ">-4<", "&lt;two&gt;", "a &lt; b &amp;"} {
		if !strings.Contains(bars.String(), text) {
			t.Errorf("bars do not show %s", text)
		}
	}
}

// Whatever the numbers, a drawing is whole or refused.
func TestOddCharts(t *testing.T) {
	inf := math.Inf(1)
	for i, values := range [][]float64{{0}, {math.NaN()}, {inf}, {1e300}, {-1e300}, {1e-300}, {math.MaxFloat64}, {-5}} {
		for _, x := range []float64{0, -7, 1e300, inf, math.NaN()} {
			c := Chart{Series: []string{"s"}, Points: []Point{{X: 0, Values: []float64{1}}, {X: x, Values: values}, {X: 1, Values: []float64{-math.MaxFloat64}}}}
			for name, draw := range map[string]func(io.Writer, Chart) error{"bars": Bars, "lines": Lines} {
				var out bytes.Buffer
				for _, c := range []Chart{c, {Series: c.Series, Points: c.Points[1:2]}} {
					out.Reset()
					if err := draw(&out, c); err == nil {
						elements(t, fmt.Sprint(name, i, x), out.Bytes())
					}
				}
			}
		}
	}
	for name, c := range map[string]Chart{
		"no series": {Points: []Point{{}}}, "no points": {Series: []string{"s"}}, "too few values": {Series: []string{"s"}, Points: []Point{{}}},
		"too many series": {Series: make([]string, seriesMax+1), Points: []Point{{Values: make([]float64, seriesMax+1)}}},
	} {
		if err := Bars(io.Discard, c); !errors.Is(err, errChart) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		lo, hi float64
		want   string
	}{{0, 10, "[0 2 4 6 8 10]"}, {0, 97, "[0 20 40 60 80 100]"}, {-3, 4, "[-3 -2 -1 0 1 2 3 4]"}, {0, 0.6, "[0 0.1 0.2 0.30000000000000004 0.4 0.5 0.6000000000000001]"}} {
		if got := fmt.Sprint(ticks(c.lo, c.hi)); got != c.want {
			t.Errorf("%v to %v: %s, want %s", c.lo, c.hi, got, c.want)
		}
	}
}
