package bucket

import (
	"context"
	"fmt"
	"time"
)

// Refresh returns when the view reflects all that was committed before the
// call, by whichever replica. An answer that comes from the view alone ("there
// is no such object") is true at some moment of the call if a Refresh went
// before it. Without the store it waits until ctx ends: give it a deadline.
func (b *Bucket) Refresh(ctx context.Context) error {
	if err := b.Ready(ctx); err != nil {
		return err
	}
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		sequence, err := b.lastSequence(ctx)
		if err == nil {
			return b.Wait(ctx, sequence)
		}
		if sleep(ctx, pause) != nil {
			return fmt.Errorf("read the head of bucket %s: %w", b.cfg.Name, err)
		}
	}
}
