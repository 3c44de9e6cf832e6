// Package plot draws a figure's numbers as an SVG of a few plain forms, for the
// documentation: bars in groups, and lines over an axis of numbers.
//
// # Usage
//
//	err := plot.Bars(w, plot.Chart{
//		Title: "How long it takes", Unit: "ms", Series: []string{"median", "p90"},
//		Points: []plot.Point{{Name: "before", Values: []float64{3, 9}}, {Name: "after", Values: []float64{1, 2}}},
//	})
//
// The same chart gives the same bytes. What is not a number is left out.
package plot
