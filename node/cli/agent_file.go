package cli

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/pflag"

	"github.com/hansa-mesh/hansa/node/api"
)

const configBytesMax = 1 << 20

// envNames are flags of the agent whose plain name in the environment means
// something else for the other verbs.
var envNames = map[string]string{"api": "HANSA_AGENT_API", "token": "HANSA_JOIN_TOKEN"}

func envName(flag string) string {
	if name, ok := envNames[flag]; ok {
		return name
	}
	return "HANSA_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// mergeConfig sets what no flag set: from the environment, then from the file.
func (s *session) mergeConfig(flags *pflag.FlagSet, file string) error {
	if file == "" {
		file = s.getenv(envName("config"))
	}
	settings, err := readConfig(file)
	if err != nil {
		return err
	}
	var known []string
	flags.VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		if !slices.Contains(known, key) || key == "config" || key == "help" {
			hint := ""
			if near := api.Nearest(key, known); near != "" {
				hint = fmt.Sprintf(": did you mean %q?", near)
			}
			return fmt.Errorf("%s: %q is no setting of hansa agent%s", file, key, hint)
		}
	}
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || failed != nil || f.Name == "config" || f.Name == "help" {
			return
		}
		if text := s.getenv(envName(f.Name)); text != "" {
			if err := f.Value.Set(text); err != nil {
				failed = usagef("%s=%q: %v", envName(f.Name), text, err)
			}
			return
		}
		value, ok := settings[f.Name]
		if !ok {
			return
		}
		for _, text := range settingTexts(value) {
			if err := f.Value.Set(text); err != nil {
				failed = fmt.Errorf("%s: %s: %w", file, f.Name, err)
			}
		}
	})
	return failed
}

func readConfig(file string) (map[string]any, error) {
	if file == "" {
		return nil, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, configBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", file, err)
	}
	if len(data) > configBytesMax {
		return nil, fmt.Errorf("configuration %s: larger than %s", file, size(configBytesMax))
	}
	var settings map[string]any
	if err := yaml.Unmarshal(data, &settings); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", file, err)
	}
	return settings, nil
}

// settingTexts is a setting as the texts that its flag takes: one for a scalar,
// one for each item of a list or a map.
func settingTexts(value any) []string {
	switch v := value.(type) {
	case nil:
		return nil
	case []any:
		var texts []string
		for _, item := range v {
			texts = append(texts, fmt.Sprint(item))
		}
		return texts
	case map[string]any:
		if lat, lon := v["lat"], v["lon"]; lat != nil && lon != nil && len(v) == 2 {
			return []string{fmt.Sprint(lat) + "," + fmt.Sprint(lon)}
		}
		var texts []string
		for _, key := range slices.Sorted(maps.Keys(v)) {
			texts = append(texts, key+"="+fmt.Sprint(v[key]))
		}
		return texts
	}
	return []string{fmt.Sprint(value)}
}
