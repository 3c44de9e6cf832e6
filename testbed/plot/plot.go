package plot

import (
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"strconv"
	"strings"
)

// Chart is what is drawn: for each point a value of each series.
type Chart struct {
	Title  string
	Unit   string // of the values
	Axis   string // what X is; lines only
	Series []string
	Points []Point
}

// Point is a group of bars with a name, or a place on the axis of lines.
type Point struct {
	Name   string
	X      float64
	Values []float64 // of each series; NaN is none
}

// The page, in units of its own.
const (
	width, height = 760, 400
	left, right   = 64, 16
	top, bottom   = 64, 52
	ticksMost     = 8
	seriesMax     = 8
	pointsMax     = 10_000
)

// colours can be told apart by those who see fewer (Okabe and Ito, 2008).
var colours = [seriesMax]string{"#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#f0e442", "#000000"}

var errChart = errors.New("plot")

func (c Chart) check() error {
	switch {
	case len(c.Series) == 0 || len(c.Series) > seriesMax:
		return fmt.Errorf("%w: %d series: want 1 to %d", errChart, len(c.Series), seriesMax)
	case len(c.Points) == 0 || len(c.Points) > pointsMax:
		return fmt.Errorf("%w: %d points: want 1 to %d", errChart, len(c.Points), pointsMax)
	}
	for _, p := range c.Points {
		if len(p.Values) != len(c.Series) {
			return fmt.Errorf("%w: %d values of %q, of %d series", errChart, len(p.Values), p.Name, len(c.Series))
		}
	}
	return nil
}

// Bars draws the points as groups of bars from zero, in their order.
func Bars(w io.Writer, c Chart) error {
	if err := c.check(); err != nil {
		return err
	}
	p := c.page()
	group := float64(width-left-right) / float64(len(c.Points))
	bar := group * 0.7 / float64(len(c.Series))
	for i, at := range c.Points {
		begin := left + group*(float64(i)+0.15)
		for k, v := range at.Values {
			if !drawable(v) {
				continue
			}
			x, y := begin+bar*float64(k), p.y(v)
			p.add(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`, x, math.Min(y, p.y(0)), bar*0.92, math.Abs(p.y(0)-y), colours[k])
			p.text(x+bar*0.46, math.Min(y, p.y(0))-4, "middle", 11, number(v))
		}
		p.text(begin+group*0.35, height-bottom+18, "middle", 13, at.Name)
	}
	return p.write(w)
}

// Lines draws each series as a line over X, in the order of the points.
func Lines(w io.Writer, c Chart) error {
	if err := c.check(); err != nil {
		return err
	}
	p := c.page()
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, at := range c.Points {
		lo, hi = math.Min(lo, at.X), math.Max(hi, at.X)
	}
	if !drawable(lo) || !drawable(hi) {
		return fmt.Errorf("%w: an X is no number", errChart)
	}
	x := func(v float64) float64 { return left + float64(width-left-right)*(v-lo)/math.Max(hi-lo, 1e-9) }
	for _, v := range ticks(lo, hi) {
		if v >= lo && v <= hi {
			p.text(x(v), height-bottom+18, "middle", 12, number(v))
		}
	}
	p.text((width+left-right)/2, height-bottom+38, "middle", 13, c.Axis)
	for k := range c.Series {
		var path []string
		for _, at := range c.Points {
			if v := at.Values[k]; drawable(v) {
				path = append(path, fmt.Sprintf("%.1f,%.1f", x(at.X), p.y(v)))
				p.add(`<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`, x(at.X), p.y(v), colours[k])
			}
		}
		p.add(`<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`, strings.Join(path, " "), colours[k])
	}
	return p.write(w)
}

// valueMax is beyond what anybody measures; what is larger, or no number, is left out.
const valueMax = 1e15

func drawable(v float64) bool { return math.Abs(v) <= valueMax } // which NaN is not

// page is a drawing with its title, legend and axis of values.
type page struct {
	out    strings.Builder
	lo, hi float64
}

func (c Chart) page() *page {
	p := &page{}
	for _, at := range c.Points {
		for _, v := range at.Values {
			if drawable(v) {
				p.lo, p.hi = math.Min(p.lo, v), math.Max(p.hi, v)
			}
		}
	}
	if p.hi == p.lo {
		p.hi = p.lo + 1
	}
	lines := ticks(p.lo, p.hi)
	p.lo, p.hi = math.Min(p.lo, lines[0]), math.Max(p.hi, lines[len(lines)-1])
	p.add(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" role="img">`, width, height)
	p.add(`<title>%s</title>`, html.EscapeString(c.Title))
	p.add(`<rect width="%d" height="%d" fill="#ffffff"/>`, width, height)
	p.text(left, 22, "start", 16, c.Title)
	for _, v := range lines {
		p.add(`<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#dddddd"/>`, left, width-right, p.y(v), p.y(v))
		p.text(left-8, p.y(v)+4, "end", 12, number(v))
	}
	p.text(left-8, top-12, "end", 12, c.Unit)
	x := float64(left)
	for k, name := range c.Series {
		p.add(`<rect x="%.1f" y="36" width="12" height="12" fill="%s"/>`, x, colours[k])
		p.text(x+18, 46, "start", 13, name)
		x += 42 + 7.5*float64(len([]rune(name)))
	}
	return p
}

// y is where a value is on the page.
func (p *page) y(v float64) float64 {
	return height - bottom - float64(height-top-bottom)*(v-p.lo)/(p.hi-p.lo)
}

func (p *page) add(format string, args ...any) { fmt.Fprintf(&p.out, format+"\n", args...) }

func (p *page) text(x, y float64, anchor string, size int, text string) {
	p.add(`<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d" fill="#222222">%s</text>`, x, y, anchor, size, html.EscapeString(text))
}

func (p *page) write(w io.Writer) error {
	p.add("</svg>")
	_, err := io.WriteString(w, p.out.String())
	return err
}

// ticks is round values from lo or below it to hi or above it.
func ticks(lo, hi float64) []float64 {
	step := math.Pow(10, math.Floor(math.Log10(math.Max(hi-lo, 1e-9))))
	for _, f := range []float64{0.1, 0.2, 0.5, 1, 2} {
		if (hi-lo)/(step*f) <= ticksMost {
			step *= f
			break
		}
	}
	var out []float64
	first := math.Floor(lo / step)
	for i := range ticksMost + 3 {
		v := (first + float64(i)) * step
		out = append(out, v)
		if v >= hi {
			break
		}
	}
	return out
}

// number is a value in as few digits as a reader needs.
func number(v float64) string {
	digits := 0
	switch a := math.Abs(v); {
	case a == 0 || a >= 100:
	case a >= 1:
		digits = 1
	default:
		digits = 2
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}
