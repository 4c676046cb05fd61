package follow

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	busv1 "github.com/damask-sdn/damask/proto/damask/bus/v1"
)

// loadCache fills dormant from the cache file.
func (f *Follower[T]) loadCache() {
	if f.options.Cache == "" {
		return
	}
	err := f.readCache()
	f.cached = err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		clear(f.dormant)
		clear(f.remember)
		f.log.Warn("cache cannot be used, starting without", "path", f.options.Cache, "error", err)
	}
}

// Cached says whether the copy began with what the cache file held, be it nothing. It
// is then what was known when the process last ran, until Synced returns.
func (f *Follower[T]) Cached() bool { return f.cached }

func (f *Follower[T]) readCache() error {
	data, err := os.ReadFile(f.options.Cache)
	if err != nil {
		return fmt.Errorf("read cache: %w", err)
	}
	var cache busv1.Cache
	if err := proto.Unmarshal(data, &cache); err != nil {
		return fmt.Errorf("decode cache: %w", err)
	}
	if cache.GetService() != f.source.Service || cache.GetKind() != f.source.Kind {
		return fmt.Errorf("cache is of %s %s", cache.GetService(), cache.GetKind())
	}
	for _, c := range cache.GetObjects() {
		object, err := f.codec.decode(c.GetObject(), c.GetRevision())
		if err != nil {
			return fmt.Errorf("object %q: %w", c.GetName(), err)
		}
		f.dormant[c.GetName()] = record[T]{object: object, revision: c.GetRevision()}
	}
	for _, name := range cache.GetKnown() {
		f.remember[name] = true
	}
	return nil
}

// keepCache writes the cache file at each change, but not more often than the pace
// allows, and at the end. The first change of several is on disk at once: a process
// that is killed a moment after it learned something must still know it.
func (f *Follower[T]) keepCache(ctx context.Context) {
	if f.options.Cache == "" {
		return
	}
	save := func() {
		if err := f.saveCache(); err != nil {
			f.log.Warn("cannot write cache, will try at the next change", "path", f.options.Cache, "error", err)
		}
	}
	defer save()
	for ctx.Err() == nil {
		select {
		case <-f.wakeKeeper:
			save()
			wait(ctx, f.pace.save)
		case <-ctx.Done():
		}
	}
}

func (f *Follower[T]) saveCache() error {
	f.mu.Lock()
	if f.saved {
		f.mu.Unlock()
		return nil
	}
	known := make(map[string]record[T])
	var whole []string
	if time.Since(f.started) < f.pace.dormant {
		maps.Copy(known, f.dormant)
		whole = slices.Collect(maps.Keys(f.remember))
	}
	for _, in := range f.interests {
		if in.known() && in.name != "" {
			whole = append(whole, in.name)
		}
		for name, rec := range in.objects {
			if !rec.gone {
				known[name] = rec
			}
		}
	}
	f.saved = true
	f.mu.Unlock()

	if err := f.writeCache(known, whole); err != nil {
		f.mu.Lock()
		f.saved = false
		f.mu.Unlock()
		return err
	}
	return nil
}

func (f *Follower[T]) writeCache(known map[string]record[T], whole []string) error {
	cache := &busv1.Cache{Service: f.source.Service, Kind: f.source.Kind, Known: whole}
	for name, rec := range known {
		data, err := proto.Marshal(rec.object)
		if err != nil {
			return fmt.Errorf("encode %q: %w", name, err)
		}
		cache.Objects = append(cache.Objects, &busv1.CachedObject{Name: name, Revision: rec.revision, Object: data})
	}
	data, err := proto.Marshal(cache)
	if err != nil {
		return fmt.Errorf("encode cache: %w", err)
	}
	return replaceFile(f.options.Cache, data)
}

// replaceFile puts data in place of the file, so that a reader and a power
// failure find the old content or the new, never a part.
func replaceFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("create directory: %w", err)
	}
	next := path + ".new" // one left by a crash is overwritten
	file, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("create the new file: %w", err)
	}
	if _, err = file.Write(data); err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", next, err)
	}
	return os.Rename(next, path)
}
