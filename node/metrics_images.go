package node

var (
	descImages      = desc("images", "Names in the mesh's registry.")
	descHoldPeers   = desc("holdings_peers", "Peers that said which files by digest they hold.")
	descHoldFiles   = desc("holdings_files", "Files that they named, all together.")
	descFiles       = desc("files", "Files by digest here, by state: whole, unfinished, quarantined.", "state")
	descFileBytes   = desc("files_bytes", "Their bytes.", "state")
	descSwept       = desc("files_swept_total", "Files deleted because nothing needed them, or others held them.")
	descSweptBytes  = desc("files_swept_bytes_total", "Their bytes.")
	descPruned      = desc("engine_images_pruned_total", "Images of the mesh that an engine let go, since nothing needed them there.")
	descChecked     = desc("files_checked_total", "Files that were read through, to find what has rotted.")
	descRotten      = desc("files_rotten_total", "Files that were found to have rotted on the disk.")
	descHealed      = desc("files_healed_total", "Files that had rotted and came whole from another peer.")
	descSearches    = desc("files_searches_total", "Files of which no holder was known, so that the peers in reach were asked, by outcome.", "outcome")
	fileStateWhole  = "whole"
	fileStateOpen   = "unfinished"
	fileStateRotten = "quarantined"
)

// images gives what this peer knows of files by digest.
func (c collector) images(gauge, count setter) {
	m := c.n.images
	t := m.counts()
	count(descSwept, float64(t.Swept))
	count(descSweptBytes, float64(t.SweptBytes))
	count(descPruned, float64(t.Pruned))
	count(descChecked, float64(t.Checked))
	count(descRotten, float64(t.Rotten))
	count(descHealed, float64(t.Healed))
	count(descSearches, float64(t.SearchHit), "found")
	count(descSearches, float64(t.Searches-t.SearchHit), "nobody")
	peers, files := m.holdings.Counts()
	gauge(descHoldPeers, float64(peers))
	gauge(descHoldFiles, float64(files))
	u, err := c.n.store.Blobs().Usage()
	if err != nil {
		return
	}
	gauge(descFiles, float64(u.Blobs), fileStateWhole)
	gauge(descFiles, float64(u.Unfinished), fileStateOpen)
	gauge(descFiles, float64(u.Quarantined), fileStateRotten)
	gauge(descFileBytes, float64(u.BlobBytes), fileStateWhole)
	gauge(descFileBytes, float64(u.UnfinishedBytes), fileStateOpen)
	gauge(descFileBytes, float64(u.QuarantinedBytes), fileStateRotten)
}
