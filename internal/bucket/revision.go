package bucket

// RevisionSince answers the revision of a key after a commit that wrote it, to
// be told to whoever waits for that revision: the key's own sequence, or the
// commit's when somebody has written the key again since. A commit's sequence
// alone will not do: it is that of the last key of several, and of a later
// message when the store's first answer was lost.
func (b *Bucket) RevisionSince(key string, commit uint64) uint64 {
	if e, exists := b.Get(key); exists && e.Revision < commit {
		return e.Revision
	}
	return commit
}
