// Package logs keeps the output of a task in a bounded row of files, and reads
// it while it is written.
//
// # Usage
//
//	w, err := logs.Open(dir, 16<<20)
//	cmd.Stdout = w.Stream("stdout")  // an io.WriteCloser that splits lines
//	r, err := logs.Read(ctx, dir, driver.LogOptions{Follow: true}, ended)
//
// A log is a folder of segments (00000001.log, …) of lines as driver.LogLine
// documents. There are at most four, each a quarter of the bound; the oldest
// goes when a fifth is begun. A follower that is overtaken is told so by a
// line of the stream "hansa".
//
// A driver whose runtime stamps the lines itself writes them whole:
//
//	w, err := logs.Resume(dir, 16<<20) // after a restart of the daemon, too
//	w.Lines(line.Append(nil))
//
// # Concurrency
//
// One Writer for each folder, used by any number of streams; any number of
// readers, in other processes too. A stream has one user.
//
// # Invariants
//
// A write never fails towards the program: if the disk is full the output is
// dropped, counted, and the loss is noted in the log once there is room.
package logs
