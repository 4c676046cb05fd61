package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/damask-sdn/damask/internal/configfile"
)

// settling is how long nothing happens beside a configuration file before it is read: longer
// than an editor or a shell is between emptying and filling it.
const settling = 100 * time.Millisecond

// levelField is live in every program, without it.
const levelField = "log.level"

// What a process has of its configuration file: a process has one.
var (
	configWrong = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "damask_config_wrong", Help: "1 while the configuration file is wrong, so that what was read before it stays in force.",
	})
	configPending = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "damask_config_pending_fields", Help: "Fields of the configuration file that count from the next start on.",
	})
)

// follower takes over what changes in a configuration file.
type follower[C any] struct {
	program Program[C]
	path    string
	running C // with which it began
	last    C // which was read last
	live    *Live[C]
	log     hclog.Logger
	said    string
}

// run follows the file until ctx ends. The directory is watched and not the file: files are
// replaced, and those of a mounted ConfigMap are reached by a link beside them that changes.
func (f *follower[C]) run(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("follow the configuration file: %w", err)
	}
	defer func() { _ = watcher.Close() }()
	if err := watcher.Add(filepath.Dir(f.path)); err != nil {
		return fmt.Errorf("follow the configuration file: %w", err)
	}
	// A file that is written in place is empty first, and what stands in none is its default:
	// it is read when its directory has been quiet for a moment.
	quiet := time.NewTimer(settling)
	defer quiet.Stop()
	f.look()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-watcher.Events:
			quiet.Reset(settling)
		case <-quiet.C:
			f.look()
		case err := <-watcher.Errors:
			return fmt.Errorf("follow the configuration file: %w", err)
		}
	}
}

// look compares the file with what is in force. One that is wrong, as a file that is being
// written may be, is refused as a whole.
func (f *follower[C]) look() {
	cfg, err := f.program.Load(f.path)
	if err != nil {
		configWrong.Set(1)
		if f.news(err.Error()) {
			f.log.Error("the configuration file is wrong, what was read before stays in force", "error", err)
			f.live.file(File{Path: f.path, Wrong: err})
		}
		return
	}
	configWrong.Set(0)
	if level := f.program.Log(cfg).level(); level != f.log.GetLevel() {
		f.log.SetLevel(level)
		f.log.Info("the log level is another", "level", level.String())
	}
	inForce := configfile.Live(reflect.TypeFor[C]())
	waits := func(field string) bool { return !slices.Contains(inForce, field) }
	if changed := slices.DeleteFunc(configfile.Differences(&f.last, &cfg), waits); len(changed) > 0 {
		f.live.configure(cfg)
		if changed = slices.DeleteFunc(changed, func(field string) bool { return field == levelField }); len(changed) > 0 {
			f.log.Info("fields of the configuration file are in force as they are now", "fields", strings.Join(changed, ", "))
		}
	}
	f.last = cfg
	fields := slices.DeleteFunc(configfile.Differences(&f.running, &cfg), func(field string) bool { return !waits(field) })
	configPending.Set(float64(len(fields)))
	if text := strings.Join(fields, ", "); f.news(text) {
		if text != "" {
			f.log.Warn("the configuration file has changed in fields that count from the next start on", "fields", text)
		}
		f.live.file(File{Path: f.path, Pending: fields})
	}
}

// news says whether something else was said last.
func (f *follower[C]) news(text string) bool {
	if text == f.said {
		return false
	}
	f.said = text
	return true
}
