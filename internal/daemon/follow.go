package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fsnotify/fsnotify"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/damask-sdn/damask/internal/configfile"
)

// liveField is what takes effect without a start: everything else says that it waits for one,
// which costs no packet.
const liveField = "log.level"

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
	running C
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
	for {
		f.look()
		select {
		case <-ctx.Done():
			return nil
		case <-watcher.Events:
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
		}
		return
	}
	configWrong.Set(0)
	if level := f.program.Log(cfg).level(); level != f.log.GetLevel() {
		f.log.SetLevel(level)
		f.log.Info("the log level is another", "level", level.String())
	}
	fields := slices.DeleteFunc(configfile.Differences(&f.running, &cfg), func(field string) bool { return field == liveField })
	configPending.Set(float64(len(fields)))
	if text := strings.Join(fields, ", "); f.news(text) && text != "" {
		f.log.Warn("the configuration file has changed in fields that count from the next start on", "fields", text)
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
