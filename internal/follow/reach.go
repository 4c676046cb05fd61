package follow

import "context"

// Reach returns when the copy has everything up to a store sequence that is
// followed, and OnChange was told of it. It asks the service unless the last
// snapshot is so new, since a change that concerns nothing that is followed
// leaves no trace on the bus: it is for whoever waits for a change, and not for
// everyday use.
func (f *Follower[T]) Reach(ctx context.Context, sequence uint64) error {
	f.mu.Lock()
	for _, in := range f.interests {
		if in.coverage < sequence {
			in.doubt(sequence)
		}
	}
	f.mu.Unlock()
	f.wakeLister.give()
	last := uint64(0)
	err := f.until(ctx, "reach a sequence", func() (bool, error) {
		for _, in := range f.interests {
			if in.coverage < sequence {
				if in.certain() { // wanted meanwhile, and listed before the sequence
					in.doubt(sequence)
					f.wakeLister.give()
				}
				return false, nil
			}
		}
		last = f.queued
		return true, nil
	})
	if err != nil || f.options.OnChange == nil {
		return err
	}
	return f.until(ctx, "be told of it", func() (bool, error) { return f.told >= last, nil })
}
